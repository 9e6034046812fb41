"""Protocols, runs, records, tables and the report: everything that is made of train.py's commands and records."""
