#!/bin/bash
# A real single-node Slurm on this machine. A suite on it is preempted halfway: do the cells go on and give the bits of the local
# executor? Then sweeps are interrupted, killed, preempted by SIGTERM, cancelled and refused: is anything lost, doubled or left? For a Debian machine that you may change (root): it installs slurmctld, slurmd and munge from Debian's
# packages and starts them with a configuration of its own in a temporary folder; nothing is registered with systemd.
#
#   benchmarks/slurm.sh [FOLDER]        everything that it writes goes to FOLDER [a temporary one]
#
# Steps, for doing it by hand:
#   1. apt-get install slurmctld slurmd slurm-client munge     2. munged, with its key in /etc/munge/munge.key
#   3. slurm.conf: one node with the machine's cores, SelectType cons_tres, no accounting, preemption by requeue
#   4. slurmctld; slurmd; sinfo says idle                      5. bench run SUITE --executor slurm --executor-set signal_delay_s=…
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
home=${1:-$(mktemp -d)}
bench=${BENCH:-$here/.venv/bin/bench}
mkdir -p "$home/state" "$home/spool" "$home/runs"

command -v slurmctld >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    slurmctld slurmd slurm-client munge >"$home/apt.log" 2>&1
[ -f /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none; }
chown munge: /etc/munge/munge.key && chmod 400 /etc/munge/munge.key
mkdir -p /run/munge && chown munge: /run/munge
pgrep -x munged >/dev/null || setpriv --reuid munge --regid munge --clear-groups munged

cores=$(nproc) memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo) node=$(hostname -s)
cat >"$home/slurm.conf" <<CONF
ClusterName=bench
SlurmctldHost=$node
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=5
MpiDefault=none
SwitchType=switch/none
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$home/slurm.conf"
trap 'scancel --user=root 2>/dev/null || true; kill $(cat "$home"/slurm*.pid 2>/dev/null) 2>/dev/null || true' EXIT
slurmctld && slurmd
for _ in $(seq 60); do sinfo --noheader --format=%T | grep -q idle && break; sleep 1; done
sinfo

cat >"$home/suite.yaml" <<SUITE
name: slurm
arch: {name: resmlp, width: 64, depth: 4}
dataset: digits
methods: [dfa, credit_bridge]
seeds: [1]
floors: false
training: {epochs: 40, batch_size: 32}
checkpoint_every: 1
SUITE
cd "$home"
echo "== local"; "$bench" run suite.yaml --results local | grep accuracy
echo "== slurm, with a preemption (SIGUSR2 to every job once a state was saved)"
(
    for _ in $(seq 600); do compgen -G "runs/slurm/.resume-*.safetensors" >/dev/null && break; sleep 0.5; done
    sleep 2
    scancel --signal=USR2 --user=root && echo "preempted at $(date +%T): $(squeue --noheader --format='%i %T' | tr '\n' ';')"
) &
"$bench" run suite.yaml --results runs --executor slurm --executor-set signal_delay_s=30 --set budget.seconds=1800 | grep -E "accuracy|cells"
wait %1 || true
echo "== resumed after epochs, and the sums of the weights"
"${bench%/bench}/python" - <<'PYTHON'
import glob, json
found = {}
for where in ("local", "runs"):
    for path in sorted(glob.glob(f"{where}/slurm/*/run.json")):
        run = json.load(open(path))
        found[where, run["identity"]] = run["files"]["checkpoint.safetensors"]["blake2b"]
        print(where, run["cell"]["method"]["name"], run["status"], "resumed after", run["resumed"], found[where, run["identity"]])
same = all(found["local", identity] == found["runs", identity] for where, identity in found)
print("same bits:", same)
raise SystemExit(not same)
PYTHON

cat >slow.py <<'RULE'
"""A rule that takes its time: dfa with pauses."""
import time
from bench_core.api import Component, hookimpl
from bench_plugins.methods.dfa import DirectFeedbackAlignment

class Slow(DirectFeedbackAlignment):
    """dfa that sleeps for .05 s in each credit."""

    def credit(self, states, y, epoch):
        time.sleep(0.05)
        return super().credit(states, y, epoch)

@hookimpl
def bench_methods():
    return [Component("slow", "slow:Slow", "dfa with pauses")]
RULE
cat >kills.yaml <<'SUITE'
name: kills
arch: {name: resmlp, width: 64, depth: 4}
dataset: digits
methods: [./slow.py]
seeds: [1, 2, 3]
floors: false
training: {epochs: 8, batch_size: 128}
checkpoint_every: 1
SUITE
sweep() { env --default-signal=INT "$bench" run kills.yaml --results "$1" --executor slurm --workers 1 --no-report >>"$1.log" 2>&1; }
running() { squeue --noheader --array --states=R --format=%i; }
begun() { for _ in $(seq 600); do compgen -G "$1/kills/.resume-*" >/dev/null && return; sleep 0.5; done; }
rows() {
    "${bench%/bench}/python" - "$1" <<'PYTHON'
import glob, json, sys
for path in sorted(glob.glob(f"{sys.argv[1]}/kills/*/run.json")):
    run = json.load(open(path))
    print("  seed", run["cell"]["seed"], run["status"], "after epoch", run["epochs"], "resumed after", run["resumed"], run["reason"] or "")
PYTHON
}

echo "== Ctrl-C: no job stays, the cell at work has a row and a log"
sweep interrupt & begun interrupt; pkill -INT -f -- "--results interrupt"; wait %% || true
rows interrupt; echo "  queue: $(squeue --noheader | wc -l) jobs; $(cat interrupt/kills/*/log.txt | grep -c interrupted) log says so"

echo "== kill -9 of the runner, and the same command: waiting jobs are cancelled, none is trained twice"
sweep kill & begun kill; pkill -KILL -f -- "--results kill"; wait %% || true
sweep kill; grep cancelled kill.log; rows kill; echo "  left: $(find kill/kills -maxdepth 1 \( -name .jobs -o -name '.tmp-*' \) | wc -l)"

echo "== SIGTERM to every process of a job, then requeue: it goes on"
sweep term & begun term; job=$(running); scancel --full --signal=TERM "$job" || true; sleep 3; scontrol requeue "$job"; wait %%
rows term

echo "== scancel by hand: a row with the state of the job, its epochs and its log"
sweep cancel & begun cancel; scancel "$(running)"; wait %% || true
rows cancel
