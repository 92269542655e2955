-- A warehouse in SQL. Made by dataset-factory; disposable. Read it with:  cd <warehouse> && duckdb -init catalog/views.sql
CREATE OR REPLACE VIEW datasets AS SELECT * REPLACE (created_at::TIMESTAMPTZ AS created_at, reasons::JSON AS reasons)
  FROM read_parquet('catalog/datasets.parquet');
CREATE OR REPLACE VIEW dataset_parts AS SELECT * FROM read_parquet('catalog/dataset_parts.parquet');
CREATE OR REPLACE VIEW dataset_inputs AS SELECT * FROM read_parquet('catalog/dataset_inputs.parquet');
CREATE OR REPLACE VIEW namespaces AS SELECT * FROM read_parquet('catalog/namespaces.parquet');
CREATE OR REPLACE VIEW checkpoints AS SELECT * REPLACE (metrics::JSON AS metrics)
  FROM read_parquet('catalog/checkpoints.parquet');
CREATE OR REPLACE VIEW runs AS
  SELECT run_id, recipe, coalesce(ended_as, CASE WHEN heartbeat::TIMESTAMPTZ > now() - INTERVAL 2 MINUTE THEN 'running'
                                                 ELSE 'lost' END) AS status,
         started_at::TIMESTAMPTZ AS started_at, ended_at::TIMESTAMPTZ AS ended_at, * EXCLUDE (run_id, recipe, ended_as,
         started_at, ended_at)
  FROM read_parquet('catalog/runs.parquet');
CREATE OR REPLACE VIEW run_steps AS SELECT * FROM read_parquet('catalog/run_steps.parquet');
