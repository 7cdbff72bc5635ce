#!/bin/bash
# Runs one shard of a batch in each task of a Slurm array. A second job joins the outputs:
#
#   array=$(sbatch --parsable slurm-array.sh MODEL IN OUT_DIR)
#   sbatch --dependency=afterany:$array --wrap "tulu-quant batch merge -o OUT_DIR/answers.jsonl OUT_DIR/part-*.jsonl"
#
# If a task is killed, preempted or reaches its time limit, submit it again to resume it. You can submit it alone
# (sbatch --array=3 slurm-array.sh …), because the number of shards is set below and not read from the array. A finished
# task exits with 0 immediately. All shards use the same context size, by default the model's training context. If this
# does not fit into --mem, add -c to the command.
#SBATCH --job-name=tulu-batch
#SBATCH --array=1-4
#SBATCH --cpus-per-task=8
# Each CPU is a whole core: two threads on one core would slow each other down.
#SBATCH --hint=nomultithread
#SBATCH --mem=24G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=tulu-batch-%A_%a.log
# 30 s before the time limit, the program gets SIGTERM, saves the finished records and exits with 143.
#SBATCH --signal=B:TERM@30

shards=4
model=$1 input=$2 output=$3

mkdir -p "$output"
exec tulu-quant batch "$model" -i "$input" -o "$output/part-{shard}.jsonl" \
    --shard "auto/$shards" --threads "$SLURM_CPUS_PER_TASK"
