"""All runs of all tasks."""

from lib import jobs, tasks
from lib.ui.context import guard, loaded_tasks
from lib.ui.jobs import jobs_page

with guard():
    jobs_page(loaded_tasks(tasks.names(), tasks.get), jobs)
