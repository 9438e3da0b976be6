#!/bin/sh
# Judge a submission: judge.sh FOLDER. Exit code 1: it has a fault, or a run does not agree.
set -eu
test -f "$1/submission.json" || { echo "$1/submission.json is missing: bench submit writes it"; exit 1; }
bench verify "$1"
bench replicate "$1" --sample "${SAMPLE:-10%}" --each-row --into replicas
bench leaderboard "$1" --format markdown -o verdict.md
bench site "$1" -o site
