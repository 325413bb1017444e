#!/bin/bash
# A sweep in a Slurm allocation: one Ray node on each machine, the driver on the first.
#
#   sbatch deploy/slurm.sh run celestial_cnn --data /shared/survey --study celestial-cnn --finish
#
# A minute before the limit Slurm sends SIGTERM, on which the sweep puts its trials in flight back; submit the same line
# again to go on. A job that another one displaces (preemption) is queued again by itself.
# Change: the #SBATCH lines, the environment, and /shared, a folder that all machines see.
#SBATCH --job-name=aifs-tune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@60
set -euo pipefail

source /shared/venv/bin/activate
export AIFS_TUNE_STORAGE=${AIFS_TUNE_STORAGE:-postgresql+psycopg://tuning@db.lab/tuning}
export AIFS_TUNE_ARTIFACTS=/shared/aifs_tune AIFS_TUNE_CACHE=/shared/aifs_tune/cache
export RAY_AUTH_MODE=token
# other users of these machines cannot read the token, and it ends with the job
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
export RAY_AUTH_TOKEN

read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")  # a pipe into head might end the script, as it has pipefail
port=$((20000 + SLURM_JOB_ID % 20000))
node=(ray start --block --disable-usage-stats --num-cpus="$SLURM_CPUS_PER_TASK")

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" "${node[@]}" --head --port="$port" --include-dashboard=false &
until ray health-check --address "$head:$port" 2>/dev/null; do sleep 1; done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  others=$((SLURM_JOB_NUM_NODES - 1))
  srun --nodes=$others --ntasks=$others --overlap --exclude="$head" "${node[@]}" --address="$head:$port" &
fi

aifs-tune "$@" --address "$head:$port" &
driver=$!
trap 'kill -TERM $driver' TERM
wait $driver || wait $driver && exit 0 || status=$?
# a job with a higher priority has taken the machines, and Ray with them: the sweep goes on when it is this job's turn again
if scontrol show job "$SLURM_JOB_ID" | grep -q "PreemptTime=[0-9]"; then scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
