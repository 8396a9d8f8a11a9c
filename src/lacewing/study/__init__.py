"""From a declared study to its results: plan, jobs, engine, run folder, report."""
