"""Train a model; shared by all tasks."""

from lib import jobs, tasks
from lib.jobs.worker import Worker
from lib.ui.context import guard, page_task, shared
from lib.ui.train import train_page

with guard():
    train_page(page_task(tasks.get), jobs, shared(Worker))
