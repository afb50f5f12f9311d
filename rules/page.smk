# Every table and plot that the repository shows, from what is committed in results/records alone. The files that it
# writes are committed, too, and one of them is also read: undeclared, as Snakemake deletes what is declared beforehand.
rule page:
    log:
        "runs/page.log",
    shell:
        "python -m evaluation.readme &> {log}"
