"""Write `docs/studies/*.html` again from the records beside them: `python -m benchmarks.study_pages`."""

from pathlib import Path

from vitral.studies.pages import read_results, write_study, write_summary

FOLDER = Path(__file__).parents[1] / "docs" / "studies"

if __name__ == "__main__":
    every = read_results(FOLDER)
    for results in every:
        write_study(results, FOLDER)
    write_summary(every, FOLDER, site="../index.html")
