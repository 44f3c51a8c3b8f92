"""Where the job runs: what each engine wants, how a job is submitted, waited for and ended."""
