-- trace_up(id), trace_down(id): a row and all its ancestors or descendants, with distance. The semi-join form prunes files;
-- a plain join in the recursion rescans them at every hop.
CREATE OR REPLACE MACRO trace_up(start) AS TABLE
  WITH RECURSIVE a(row_id, depth) AS (
    SELECT start::BIGINT, 0
    UNION
    SELECT e.parent_row_id, (SELECT max(depth) FROM a) + 1 FROM row_lineage e WHERE e.child_row_id IN (SELECT row_id FROM a))
  SELECT row_id, min(depth) AS depth FROM a GROUP BY 1 ORDER BY depth, row_id;
CREATE OR REPLACE MACRO trace_down(start) AS TABLE
  WITH RECURSIVE a(row_id, depth) AS (
    SELECT start::BIGINT, 0
    UNION
    SELECT e.child_row_id, (SELECT max(depth) FROM a) + 1 FROM row_lineage e WHERE e.parent_row_id IN (SELECT row_id FROM a))
  SELECT row_id, min(depth) AS depth FROM a GROUP BY 1 ORDER BY depth, row_id;
-- why(id): every verdict, rejection, failure and selection of one row.
CREATE OR REPLACE MACRO why(id) AS TABLE
  SELECT 'verdict' AS kind, step, judge AS by, passed, reason_code, reason, NULL::VARCHAR AS ref
    FROM verdicts WHERE row_id = id::BIGINT
  UNION ALL BY NAME SELECT 'rejected' AS kind, step, gate AS by, false AS passed, reason_code, reason, ref
    FROM rejections WHERE row_id = id::BIGINT
  UNION ALL BY NAME SELECT 'failed' AS kind, step, NULL AS by, NULL AS passed, error_type AS reason_code, message AS reason, ref
    FROM failures WHERE row_id = id::BIGINT
  UNION ALL BY NAME SELECT 'selected' AS kind, NULL AS step, NULL AS by, true AS passed, NULL AS reason_code, NULL AS reason,
    ref FROM selections WHERE row_id = id::BIGINT;
-- funnel(ref): how many slots went in and what became of them, by primary reason.
CREATE OR REPLACE MACRO funnel(wanted) AS TABLE
  SELECT ref, rows_in, rows_kept, rows_rejected, rows_failed, reasons FROM datasets WHERE ref = wanted OR dataset = wanted
  ORDER BY version DESC LIMIT 1;
-- behind(checkpoint): every dataset version and checkpoint that a checkpoint ('name@2', or the latest of 'name') descends
-- from, nearest first, with the roles in which it took part: what only stands `against` gave no row to anything.
CREATE OR REPLACE MACRO behind(wanted) AS TABLE
  WITH RECURSIVE a(kind, ref, depth) AS (
    SELECT 'checkpoint', (SELECT ref FROM checkpoints WHERE ref = wanted OR name = wanted ORDER BY version DESC LIMIT 1), 0
    UNION
    SELECT e.from_kind, e.from_ref, a.depth + 1 FROM version_lineage e JOIN a ON a.kind = e.kind AND a.ref = e.ref),
  roles AS (SELECT from_kind, from_ref, list(DISTINCT role ORDER BY role) AS roles
            FROM version_lineage e SEMI JOIN a ON a.kind = e.kind AND a.ref = e.ref GROUP BY ALL)
  SELECT a.ref, CASE WHEN a.kind = 'checkpoint' THEN 'checkpoint' ELSE any_value(d.kind) END AS kind,
         coalesce(any_value(c.op), any_value(d.op)) AS op, any_value(d.row_count) AS row_count, min(depth) AS depth,
         any_value(roles) AS roles
  FROM a JOIN roles ON from_kind = a.kind AND from_ref = a.ref
         LEFT JOIN datasets d ON a.kind = 'dataset' AND d.ref = a.ref
         LEFT JOIN checkpoints c ON a.kind = 'checkpoint' AND c.ref = a.ref
  GROUP BY a.kind, a.ref ORDER BY depth, a.ref;
