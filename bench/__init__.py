"""The benchmark: this service beside a bare Flask reply, a plain Flask + Peewee app and pgbench, in one run on one machine."""
