"""Schedules: the same command every night, with the date it is for."""
