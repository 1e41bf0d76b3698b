"""Clean real files; shared by all tasks."""

from lib import jobs, tasks
from lib.jobs.worker import Worker
from lib.ui.clean import clean_page
from lib.ui.context import guard, page_task, shared

with guard():
    clean_page(page_task(tasks.get), shared(Worker), jobs)
