"""The benchmark: this service against a bare Flask reply, a plain Flask + Peewee app and pgbench.

Everything is measured in one run on one machine.
"""
