"""Iceberg and Delta tables that name the parts of runs: imported only where one is asked for."""
