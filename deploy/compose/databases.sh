#!/bin/sh
# Runs once, when PostgreSQL starts with an empty volume: each service has its own database.
set -eu
for name in auth users; do
  psql --username "$POSTGRES_USER" --dbname postgres --command "CREATE DATABASE $name"
done
