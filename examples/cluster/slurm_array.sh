#!/usr/bin/env bash
# One pre-training or run of an experiment per task of a SLURM array. How many there are, and then
# all pre-trainings and after them all runs:
#
#   python -m adabc_lightning experiment fig1 --dry-run | tail -1    # 12 pre-trainings, 36 runs
#   first=$(sbatch --parsable --array=0-11 examples/cluster/slurm_array.sh fig1 pretrainings)
#   sbatch --dependency=afterany:$first --array=0-35 examples/cluster/slurm_array.sh fig1 runs
#
# OUT/results.csv grows as runs end. More options go after the stage: fig1 runs --config small.
# A task that runs out of time or is preempted saves, is queued again and goes on.
#SBATCH --job-name=adabc
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.log
##SBATCH --gres=gpu:1
set -uo pipefail
if [ $# -lt 2 ] || [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
    echo "usage: sbatch --array=0-N slurm_array.sh EXPERIMENT pretrainings|runs [OPTION]..." >&2
    exit 2
fi
experiment=$1 stage=$2
shift 2
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
srun "${PYTHON:-python}" -m adabc_lightning experiment "$experiment" \
    --only "$stage" --index "$SLURM_ARRAY_TASK_ID" "$@"
status=$?
if [ "$status" -eq 143 ] || [ "$status" -eq 138 ]; then # SIGTERM, SIGUSR1: the time is over
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$status"
