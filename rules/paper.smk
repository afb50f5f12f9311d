# The paper's own tables, with ours beside what it prints; from the committed rows alone, and not among what `all` makes.
rule paper_table:
    input:
        BESIDE,
        rows=sorted(Path("results/records").glob("*.jsonl")),
        published="evaluation/published.yaml",
        variants=VARIANTS,
    output:
        md="results/paper/{table}.md",
        csv="results/paper/{table}.csv",
        tex="results/paper/{table}.tex",
    log:
        "runs/paper/{table}.log",
    wildcard_constraints:
        table=r"table\w+",
    params:
        code=registry.code(
            "evaluation.paper_tables",
            "evaluation.published",
            "evaluation.tables",
            "evaluation.markup",
            "evaluation.summary",
            "evaluation.stats",
            "evaluation.records",
        ),
    shell:
        "python -m evaluation.paper_tables {wildcards.table} --records {input.rows} --variants {input.variants}"
        " --out-md {output.md} --out-csv {output.csv} --out-tex {output.tex} &> {log}"


rule table1:
    input:
        multiext("results/paper/table1", ".md", ".csv", ".tex"),


rule table2:
    input:
        multiext("results/paper/table2", ".md", ".csv", ".tex"),


rule table3:
    input:
        multiext("results/paper/table3", ".md", ".csv", ".tex"),


rule table4:
    input:
        multiext("results/paper/table4", ".md", ".csv", ".tex"),


rule table5:
    input:
        multiext("results/paper/table5", ".md", ".csv", ".tex"),


rule tableA1:
    input:
        multiext("results/paper/tableA1", ".md", ".csv", ".tex"),


# What the paper prints as figures, with rows of ours where there are any.
rule paper_figure:
    input:
        rows=sorted(Path("results/records").glob("*.jsonl")),
        published="evaluation/published.yaml",
        variants=VARIANTS,
    output:
        multiext("results/paper/figures/{figure}", ".png", ".svg"),
    log:
        "runs/paper/figures/{figure}.log",
    wildcard_constraints:
        figure="ladder|quality_vs_latency|quality_vs_steps",
    params:
        code=registry.code(
            "evaluation.paper_figures",
            "evaluation.paper_tables",
            "evaluation.tradeoffs",
            "evaluation.steps",
            "evaluation.series",
            "evaluation.looks",
            "evaluation.published",
            "evaluation.summary",
            "evaluation.stats",
            "evaluation.records",
        ),
    shell:
        "python -m evaluation.paper_figures {wildcards.figure} --records {input.rows} --variants {input.variants}"
        " --out $(dirname {output} | uniq) &> {log}"


rule ladder:
    input:
        multiext("results/paper/figures/ladder", ".png", ".svg"),


rule quality_vs_latency:
    input:
        multiext("results/paper/figures/quality_vs_latency", ".png", ".svg"),


rule quality_vs_steps:
    input:
        multiext("results/paper/figures/quality_vs_steps", ".png", ".svg"),
