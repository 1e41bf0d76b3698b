"""Predict from files; shared by all tasks."""

from lib import jobs, tasks
from lib.jobs.worker import Worker
from lib.ui.context import guard, page_task, shared
from lib.ui.predict import predict_page

with guard():
    predict_page(page_task(tasks.get), shared(Worker), jobs)
