-- What a user asks of a warehouse. `stored.*` are the catalog's own files; the views here put them together.
-- `latest`: the newest whole version of its name (of rehearsals alone, the newest). `sequence` orders commits; no clock does.
CREATE OR REPLACE VIEW datasets AS
  SELECT d.* REPLACE (try_cast(d.created_at AS TIMESTAMPTZ) AS created_at, d.reasons::JSON AS reasons),
         coalesce(t.tags, []) AS tags, x.ref IS NOT NULL AS deleted,
         coalesce(l.ref IS NOT NULL, false) AS latest
    FROM stored.datasets d
    LEFT JOIN (SELECT ref, list(tag ORDER BY tag) AS tags FROM stored.tags GROUP BY ref) t ON t.ref = d.ref
    LEFT JOIN (SELECT ref FROM stored.deleted WHERE kind = 'dataset') x ON x.ref = d.ref
    LEFT JOIN (SELECT arg_max(ref, (CASE WHEN partial THEN 0 ELSE 1000000000 END) + version) AS ref FROM stored.datasets
               WHERE ref NOT IN (SELECT ref FROM stored.deleted WHERE kind = 'dataset') GROUP BY dataset) l ON l.ref = d.ref;
CREATE OR REPLACE VIEW dataset_parts AS SELECT * FROM stored.dataset_parts;
CREATE OR REPLACE VIEW dataset_inputs AS SELECT * FROM stored.dataset_inputs;
-- Who made the rows of a namespace (a row's is `row_id >> 40`): the first version that holds them, its model and checkpoint.
CREATE OR REPLACE VIEW namespaces AS
  SELECT n.*, d.ref, d.model, d.by_checkpoint, d.run_id FROM stored.namespaces n
    LEFT JOIN (SELECT p.min_row_id >> 40 AS namespace, arg_min(d.ref, d.sequence) AS ref
               FROM stored.dataset_parts p JOIN stored.datasets d ON d.ref = p.ref WHERE p.table_name = 'rows' GROUP BY 1) f
      ON f.namespace = n.namespace
    LEFT JOIN stored.datasets d ON d.ref = f.ref;
CREATE OR REPLACE VIEW tags AS SELECT * FROM stored.tags;
-- Which version holds which part: versions share parts. Deleted versions are left out.
CREATE OR REPLACE VIEW stored.holders AS
  SELECT p.part_id, p.table_name, p.ref, d.dataset, d.version, d.sequence, d.step, d.op, d.op_version
    FROM stored.dataset_parts p JOIN stored.datasets d ON d.ref = p.ref
   WHERE p.ref NOT IN (SELECT ref FROM stored.deleted WHERE kind = 'dataset');
-- Which version holds which row, and how many times it counts there; of every version, deleted ones too.
CREATE OR REPLACE VIEW version_rows AS
  SELECT p.ref, s.row_id, s.weight FROM stored.selections s
    JOIN stored.dataset_parts p ON p.part_id = s.part_id AND p.table_name = 'selection'
  UNION ALL SELECT p.ref, r.row_id, 1 FROM stored.row_ids r
    JOIN stored.dataset_parts p ON p.part_id = r.part_id AND p.table_name = 'rows'
    ANTI JOIN (SELECT q.ref, x.row_id FROM stored.superseded x JOIN stored.dataset_parts q ON q.part_id = x.part_id
               WHERE q.table_name = 'superseded') gone ON gone.ref = p.ref AND gone.row_id = r.row_id;
-- Edges: every row that was made from another.
CREATE OR REPLACE VIEW row_lineage AS SELECT * EXCLUDE (part_id) FROM stored.row_lineage;
CREATE OR REPLACE VIEW row_roots AS SELECT * EXCLUDE (part_id) FROM stored.row_roots;
CREATE OR REPLACE VIEW provenance AS SELECT * EXCLUDE (part_id) FROM stored.provenance;
-- `judge` is the op, `dataset` the score dataset it wrote; `details` are the op's own columns.
CREATE OR REPLACE VIEW verdicts AS
  SELECT v.row_id, p.step, p.op AS judge, p.op_version AS judge_version, v.passed, v.label, v.score, v.reason_code,
         v.reason, v.details::JSON AS details, p.dataset
    FROM stored.verdicts v
    JOIN (SELECT DISTINCT part_id, step, op, op_version, dataset FROM stored.holders WHERE table_name = 'scores') p
      ON p.part_id = v.part_id;
-- Rows that one verifier calls correct and another incorrect, each by the latest version of its dataset. What combines
-- verdicts is no verifier. A pair stands once, in the order of its steps' names; a part that several datasets share speaks
-- for the first of them alone.
CREATE OR REPLACE VIEW disagreements AS
  WITH speaker AS (
    SELECT p.part_id, p.step, p.op, p.dataset
      FROM stored.holders p JOIN (SELECT ref FROM datasets WHERE latest) d ON d.ref = p.ref
     WHERE p.table_name = 'scores' AND p.op <> 'verify.combine'
    QUALIFY row_number() OVER (PARTITION BY p.part_id ORDER BY p.dataset, p.step) = 1),
  said AS (
    SELECT v.row_id, p.step, p.op AS judge, p.dataset, v.label, v.score, v.reason_code, v.reason
      FROM stored.verdicts v JOIN speaker p ON p.part_id = v.part_id WHERE v.label IN ('correct', 'incorrect'))
  SELECT a.row_id, a.step AS step_a, b.step AS step_b, a.judge AS judge_a, b.judge AS judge_b, a.label AS label_a,
         b.label AS label_b, a.score AS score_a, b.score AS score_b, a.reason_code AS reason_code_a,
         b.reason_code AS reason_code_b, a.reason AS reason_a, b.reason AS reason_b, a.dataset AS dataset_a,
         b.dataset AS dataset_b
    FROM said a JOIN said b ON b.row_id = a.row_id AND b.label <> a.label
     AND (a.step < b.step OR (a.step = b.step AND a.dataset < b.dataset));
-- Refusals, failures and choices belong to versions: each stands once for each version (`ref`) that holds it.
CREATE OR REPLACE VIEW rejections AS
  SELECT r.* EXCLUDE (part_id), p.ref FROM stored.rejections r
    JOIN stored.holders p ON p.part_id = r.part_id AND p.table_name = 'rejections';
CREATE OR REPLACE VIEW failures AS
  SELECT f.* EXCLUDE (part_id), p.ref FROM stored.failures f
    JOIN stored.holders p ON p.part_id = f.part_id AND p.table_name = 'failures';
CREATE OR REPLACE VIEW selections AS
  SELECT s.* EXCLUDE (part_id), p.ref FROM stored.selections s
    JOIN stored.holders p ON p.part_id = s.part_id AND p.table_name = 'selection';
-- How each shard of a version came about.
CREATE OR REPLACE VIEW shards AS
  SELECT p.ref, p.step, s.* EXCLUDE (part_id)
         REPLACE (try_cast(s.finished_at AS TIMESTAMPTZ) AS finished_at, coalesce(s.cost, 0) AS cost)
    FROM stored.shards s JOIN stored.holders p ON p.part_id = s.part_id AND p.table_name = 'shards';
-- `passed` and `gate` are the verdict of the newest gate on a checkpoint and its reason.
CREATE OR REPLACE VIEW checkpoints AS
  SELECT c.name, c.version, c.ref, d.op, c.base, c.dataset_ref, c.dataset_refs, c.metrics::JSON AS metrics, g.passed,
         g.reason AS gate, c.files, c.bytes, c.run_id, try_cast(c.created_at AS TIMESTAMPTZ) AS created_at, c.partial,
         x.ref IS NOT NULL AS deleted
    FROM stored.checkpoints c
    LEFT JOIN (SELECT checkpoint, arg_max(op, sequence) AS op FROM stored.datasets WHERE kind = 'checkpoint' GROUP BY 1) d
      ON d.checkpoint = c.ref
    LEFT JOIN (SELECT checkpoint, arg_max(passed, sequence) AS passed, arg_max(reason, sequence) AS reason
               FROM stored.gates GROUP BY 1) g ON g.checkpoint = c.ref
    LEFT JOIN (SELECT ref FROM stored.deleted WHERE kind = 'checkpoint') x ON x.ref = c.ref;
-- One row for each figure of each report; `dataset_ref` is what the judged model was asked.
CREATE OR REPLACE VIEW evaluations AS SELECT * FROM stored.evaluations
  WHERE ref NOT IN (SELECT ref FROM stored.deleted WHERE kind = 'dataset');
CREATE OR REPLACE VIEW runs AS
  SELECT s.run_id, s.recipe,
         coalesce(e.status, CASE WHEN h.heartbeat::TIMESTAMPTZ > now() - INTERVAL 2 MINUTE THEN 'running' ELSE 'lost' END)
           AS status,
         s.started_at::TIMESTAMPTZ AS started_at, e.ended_at::TIMESTAMPTZ AS ended_at,
         h.heartbeat, s.* EXCLUDE (run_id, recipe, started_at), e.error
    FROM stored.runs_started s LEFT JOIN stored.runs_ended e ON e.run_id = s.run_id
    LEFT JOIN stored.heartbeats h ON h.run_id = s.run_id;
CREATE OR REPLACE VIEW run_steps AS
  SELECT s.* EXCLUDE (seconds, error), d.currency, s.seconds, s.error
    FROM stored.run_steps s LEFT JOIN stored.datasets d ON d.ref = s.ref;
-- The shards of each version, with a number that a shard has in every version that carries it on.
CREATE OR REPLACE VIEW stored.spent AS
  SELECT DISTINCT p.ref, hash(d.op, s.shard, s.run_id, s.worker, s.finished_at) AS unit, s.seconds, s.tokens_in,
         s.tokens_out, s.answers_requested, s.answers_reused, s.cost, s.currency
    FROM stored.shards s JOIN stored.dataset_parts p ON p.part_id = s.part_id AND p.table_name = 'shards'
    JOIN stored.datasets d ON d.ref = p.ref;
-- What each version took: of its own, over all its increments, and in all (`total_`) with every version above it, each shard
-- once, deleted ones too. A cost is NULL where no price was named, and where currencies differ (`USD+EUR`).
CREATE OR REPLACE VIEW costs AS
  WITH RECURSIVE above(ref, up) AS (
    SELECT ref, ref FROM stored.datasets
    UNION
    SELECT above.ref, i.input_ref FROM above JOIN stored.dataset_inputs i ON i.ref = above.up),
  own AS (SELECT ref, round(fsum(seconds), 3) AS seconds, sum(tokens_in)::BIGINT AS tokens_in,
                 sum(tokens_out)::BIGINT AS tokens_out, sum(answers_requested)::BIGINT AS answers_requested,
                 sum(answers_reused)::BIGINT AS answers_reused, round(fsum(cost), 9) AS cost,
                 list_sort(list(DISTINCT currency) FILTER (currency IS NOT NULL)) AS currencies
            FROM stored.spent GROUP BY ref),
  whole AS (SELECT ref, round(fsum(seconds), 3) AS seconds, sum(tokens_in)::BIGINT AS tokens_in,
                   sum(tokens_out)::BIGINT AS tokens_out, round(fsum(cost), 9) AS cost,
                   list_sort(list(DISTINCT currency) FILTER (currency IS NOT NULL)) AS currencies
              FROM (SELECT DISTINCT a.ref, s.* EXCLUDE (ref) FROM above a JOIN stored.spent s ON s.ref = a.up) GROUP BY ref)
  SELECT d.ref, d.dataset, d.version, d.kind, d.step, d.partial, d.row_count AS rows, o.seconds, o.tokens_in, o.tokens_out,
         o.answers_requested, o.answers_reused, CASE WHEN len(o.currencies) = 1 THEN o.cost END AS cost,
         array_to_string(o.currencies, '+') AS currency, w.seconds AS total_seconds, w.tokens_in AS total_tokens_in,
         w.tokens_out AS total_tokens_out, CASE WHEN len(w.currencies) = 1 THEN w.cost END AS total_cost,
         array_to_string(w.currencies, '+') AS total_currency,
         round(total_cost / nullif(d.row_count, 0), 9) AS cost_per_row,
         round(w.tokens_out / nullif(d.row_count, 0), 1) AS tokens_per_row
    FROM stored.datasets d LEFT JOIN own o ON o.ref = d.ref LEFT JOIN whole w ON w.ref = d.ref
   WHERE d.ref NOT IN (SELECT ref FROM stored.deleted WHERE kind = 'dataset');
-- What each dataset version and checkpoint was made from. `role` is an input's role in its step (from, where,
-- verdicts, against), `model` (the checkpoint that was asked), `trained on` or `base`. A train step's version stands for its checkpoint.
CREATE OR REPLACE VIEW version_lineage AS
  SELECT 'dataset' AS kind, i.ref, CASE WHEN f.kind = 'checkpoint' THEN 'checkpoint' ELSE 'dataset' END AS from_kind,
         CASE WHEN f.kind = 'checkpoint' THEN f.checkpoint ELSE i.input_ref END AS from_ref, i.role
    FROM stored.dataset_inputs i JOIN stored.datasets d ON d.ref = i.ref LEFT JOIN stored.datasets f ON f.ref = i.input_ref
    WHERE d.kind != 'checkpoint' AND i.role != 'model'
  UNION ALL SELECT 'dataset', ref, 'checkpoint', by_checkpoint, 'model' FROM stored.datasets
    WHERE by_checkpoint IS NOT NULL AND kind != 'checkpoint'
  UNION ALL SELECT 'checkpoint', ref, 'dataset', unnest(dataset_refs), 'trained on' FROM stored.checkpoints
  UNION ALL SELECT 'checkpoint', c.ref, 'checkpoint', b.ref, 'base'
    FROM stored.checkpoints c JOIN stored.checkpoints b ON b.ref = c.base;
