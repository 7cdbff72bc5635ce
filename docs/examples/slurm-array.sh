#!/bin/bash
# One shard of a batch on each task of a Slurm array, and a job that joins them:
#
#   array=$(sbatch --parsable slurm-array.sh MODEL IN OUT_DIR)
#   sbatch --dependency=afterany:$array --wrap "tulu-quant batch merge -o OUT_DIR/answers.jsonl OUT_DIR/part-*.jsonl"
#
# A task that is killed, preempted or runs into its time limit goes on where it was when it is submitted again, also
# alone (sbatch --array=3 slurm-array.sh …): the number of shards is written here, not taken from the array. A task that
# had finished ends with 0 at once. All shards have one window: where --mem holds less than the model's own, give -c.
#SBATCH --job-name=tulu-batch
#SBATCH --array=1-4
#SBATCH --cpus-per-task=8
# CPUs are cores: two threads on one core would be in each other's way.
#SBATCH --hint=nomultithread
#SBATCH --mem=24G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=tulu-batch-%A_%a.log
# Half a minute before the limit: the program writes down what it has and ends with 143.
#SBATCH --signal=B:TERM@30

shards=4
model=$1 input=$2 output=$3

mkdir -p "$output"
exec tulu-quant batch "$model" -i "$input" -o "$output/part-{shard}.jsonl" \
    --shard "auto/$shards" --threads "$SLURM_CPUS_PER_TASK"
