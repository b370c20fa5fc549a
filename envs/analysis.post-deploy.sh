#!/usr/bin/env bash
# Run by Snakemake in the new environment, from the working directory (the root of the repository).
set -euo pipefail
pip install --constraint envs/analysis.txt '.[atlas]'
