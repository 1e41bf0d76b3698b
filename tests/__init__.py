"""Tests of Lightbench; packages, so that two folders may hold a test file of the same name."""
