-- A warehouse in SQL. Made by dataset-factory; disposable. Read it with:  cd <warehouse> && duckdb -init catalog/views.sql
CREATE OR REPLACE VIEW datasets AS SELECT * REPLACE (created_at::TIMESTAMPTZ AS created_at, reasons::JSON AS reasons)
  FROM read_parquet('catalog/datasets.parquet');
CREATE OR REPLACE VIEW dataset_parts AS SELECT * FROM read_parquet('catalog/dataset_parts.parquet');
CREATE OR REPLACE VIEW dataset_inputs AS SELECT * FROM read_parquet('catalog/dataset_inputs.parquet');
CREATE OR REPLACE VIEW namespaces AS SELECT * FROM read_parquet('catalog/namespaces.parquet');
-- `passed` and `gate` are the verdict of the newest gate on a checkpoint and its reason.
CREATE OR REPLACE VIEW checkpoints AS SELECT * REPLACE (metrics::JSON AS metrics, created_at::TIMESTAMPTZ AS created_at)
  FROM read_parquet('catalog/checkpoints.parquet');
-- One row for each figure of each report; `dataset_ref` is what the judged model was asked.
CREATE OR REPLACE VIEW evaluations AS SELECT * FROM read_parquet('catalog/evaluations.parquet');
CREATE OR REPLACE VIEW runs AS
  SELECT run_id, recipe, coalesce(ended_as, CASE WHEN heartbeat::TIMESTAMPTZ > now() - INTERVAL 2 MINUTE THEN 'running'
                                                 ELSE 'lost' END) AS status,
         started_at::TIMESTAMPTZ AS started_at, ended_at::TIMESTAMPTZ AS ended_at, * EXCLUDE (run_id, recipe, ended_as,
         started_at, ended_at)
  FROM read_parquet('catalog/runs.parquet');
CREATE OR REPLACE VIEW run_steps AS SELECT * FROM read_parquet('catalog/run_steps.parquet');
-- What each dataset version and checkpoint was made from. `role` is an input's role in its step (from, where, against),
-- `model` (the checkpoint that was asked), `trained on` or `base`. A train step's version stands for its checkpoint.
CREATE OR REPLACE VIEW version_lineage AS
  SELECT 'dataset' AS kind, i.ref, CASE WHEN f.kind = 'checkpoint' THEN 'checkpoint' ELSE 'dataset' END AS from_kind,
         CASE WHEN f.kind = 'checkpoint' THEN f.checkpoint ELSE i.input_ref END AS from_ref, i.role
    FROM dataset_inputs i JOIN datasets d ON d.ref = i.ref LEFT JOIN datasets f ON f.ref = i.input_ref
    WHERE d.kind != 'checkpoint' AND i.role != 'model'
  UNION ALL SELECT 'dataset', ref, 'checkpoint', by_checkpoint, 'model' FROM datasets
    WHERE by_checkpoint IS NOT NULL AND kind != 'checkpoint'
  UNION ALL SELECT 'checkpoint', ref, 'dataset', unnest(dataset_refs), 'trained on' FROM checkpoints
  UNION ALL SELECT 'checkpoint', c.ref, 'checkpoint', b.ref, 'base' FROM checkpoints c JOIN checkpoints b ON b.ref = c.base;
