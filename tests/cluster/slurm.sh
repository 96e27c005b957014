#!/usr/bin/env bash
# A Slurm of one node, this machine, as root: tests/cluster/slurm.sh start FOLDER, and later stop FOLDER.
# Debian's slurm-wlm has all it takes. To use it: export SLURM_CONF=FOLDER/slurm.conf
set -euo pipefail

(($# == 2)) || { sed -n 2,3p "$0" >&2; exit 2; }
mkdir -p "$2"
folder=$(realpath "$2")
export SLURM_CONF="$folder/slurm.conf"
node=$(hostname -s)

free_ports() {
  python3 -c "
import socket
held = [socket.create_server(('', 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))"
}

configure() {
  read -r controller daemon <<< "$(free_ports)"
  mkdir -p "$folder"/{state,spool,log}
  [ -f "$folder/munge.key" ] || (umask 077 && head -c 128 /dev/urandom > "$folder/munge.key")
  cat > "$SLURM_CONF" << END
ClusterName=tests
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$daemon
SlurmUser=root
AuthInfo=socket=$folder/munge.socket,cred_expire=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=1
KillWait=20
SlurmdParameters=config_overrides
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=tests Nodes=$node Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
END
}

start() {
  configure
  munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --seed-file="$folder/munge.seed" \
    --pid-file="$folder/munged.pid" --log-file="$folder/log/munged" > "$folder/log/start" 2>&1
  slurmctld
  slurmd
  for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%T 2> /dev/null)" = idle ] && return
    sleep 0.5
  done
  echo "Slurm does not start; see $folder/log" >&2
  stop
  return 1
}

stop() {
  scancel --partition=tests 2> /dev/null || true
  for daemon in slurmd slurmctld munged; do
    [ ! -f "$folder/$daemon.pid" ] || kill "$(cat "$folder/$daemon.pid")" 2> /dev/null || true
  done
  for _ in $(seq 60); do
    compgen -G "$folder/*.pid" > /dev/null || return 0
    sleep 0.5
  done
}

"$1"
