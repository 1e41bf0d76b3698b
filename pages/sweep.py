"""Train many models whose settings vary; shared by all tasks."""

from lib import jobs, tasks
from lib.ui.context import guard, page_task
from lib.ui.sweep import sweep_page

with guard():
    sweep_page(page_task(tasks.get), jobs)
