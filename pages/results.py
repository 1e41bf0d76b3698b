"""Review and compare models; shared by all tasks."""

from lib import jobs, tasks
from lib.jobs.worker import Worker
from lib.ui.context import guard, page_task, shared
from lib.ui.results import results_page

with guard():
    results_page(page_task(tasks.get), jobs, shared(Worker))
