"""Simulate measurements; shared by all tasks."""

from lib import tasks
from lib.ui.context import guard, page_task
from lib.ui.simulate import simulate_page

with guard():
    simulate_page(page_task(tasks.get))
