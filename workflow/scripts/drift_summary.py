from personascope.display.figure import save_figure
from personascope.drift.pages.ranking import ranking_figure, ranking_html
from personascope.drift.summary import detection_table, read_summaries, summary_table
from personascope.formats.files import write_text
from personascope.formats.tables import write_csv, write_table
from personascope.runs.job import job

with job(snakemake.log[0], snakemake.output):
    table = summary_table(read_summaries(snakemake.input.summaries))
    write_table(snakemake.output.table, table)
    write_csv(snakemake.output.csv, table)
    write_csv(snakemake.output.detection, detection_table(table))
    write_text(snakemake.output.page, ranking_html(table))
    save_figure(ranking_figure(table), snakemake.output.png, snakemake.output.svg)
