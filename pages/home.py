"""Home: tasks, runs in progress, latest results."""

from lib import jobs, tasks
from lib.ui.context import guard, loaded_tasks
from lib.ui.home import home_page

with guard():
    home_page(loaded_tasks(tasks.names(), tasks.get), jobs)
