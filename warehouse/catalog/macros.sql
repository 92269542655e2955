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
-- why(id): every verdict, rejection, failure and selection of one row. Of versions that share a finding, the newest.
CREATE OR REPLACE MACRO why(id) AS TABLE
  SELECT 'verdict' AS kind, step, judge AS decided_by, passed, reason_code, reason, NULL::VARCHAR AS ref
    FROM verdicts WHERE row_id = id::BIGINT
  UNION ALL BY NAME SELECT 'rejected' AS kind, r.step, r.gate AS decided_by, false AS passed, r.reason_code,
    any_value(r.reason) AS reason, arg_max(p.ref, p.sequence) AS ref
    FROM stored.rejections r JOIN stored.holders p ON p.part_id = r.part_id AND p.table_name = 'rejections'
    WHERE r.row_id = id::BIGINT GROUP BY p.dataset, r.slot, r.step, r.gate, r.reason_code
  UNION ALL BY NAME SELECT 'failed' AS kind, f.step, NULL AS decided_by, NULL AS passed, f.error_type AS reason_code,
    any_value(f.message) AS reason, arg_max(p.ref, p.sequence) AS ref
    FROM stored.failures f JOIN stored.holders p ON p.part_id = f.part_id AND p.table_name = 'failures'
    WHERE f.row_id = id::BIGINT GROUP BY p.dataset, f.slot, f.step, f.error_type
  UNION ALL BY NAME SELECT 'selected' AS kind, p.step, NULL AS decided_by, true AS passed, NULL AS reason_code, NULL AS reason, p.ref
    FROM stored.selections s JOIN stored.holders p ON p.part_id = s.part_id AND p.table_name = 'selection'
    WHERE s.row_id = id::BIGINT;
-- funnel(ref): how many slots went into a version ('name@3', 'name@tag', or the latest of 'name') and what became of them,
-- by primary reason.
CREATE OR REPLACE MACRO funnel(wanted) AS TABLE
  SELECT ref, rows_in, rows_kept, rows_rejected, rows_failed, reasons FROM datasets
  WHERE NOT deleted AND (ref = wanted OR (dataset = wanted AND latest)
                         OR ref = (SELECT any_value(t.ref) FROM tags t WHERE t.dataset || '@' || t.tag = wanted))
  ORDER BY version DESC LIMIT 1;
-- members(ref): the ids of a version's rows ('name@3').
CREATE OR REPLACE MACRO members(wanted) AS TABLE
  SELECT row_id FROM stored.selections
   WHERE part_id IN (SELECT part_id FROM stored.dataset_parts WHERE ref = wanted AND table_name = 'selection')
  UNION ALL SELECT row_id FROM stored.row_ids
   WHERE part_id IN (SELECT part_id FROM stored.dataset_parts WHERE ref = wanted AND table_name = 'rows')
     AND row_id NOT IN (SELECT row_id FROM stored.superseded WHERE part_id IN (
       SELECT part_id FROM stored.dataset_parts WHERE ref = wanted AND table_name = 'superseded'));
-- refusals(ref): why slots of a version are missing: primary rejections and failures.
CREATE OR REPLACE MACRO refusals(wanted) AS TABLE
  SELECT row_id, slot, gate, reason_code, reason FROM stored.rejections
   WHERE "primary" AND part_id IN (SELECT part_id FROM stored.dataset_parts WHERE ref = wanted AND table_name = 'rejections')
  UNION ALL SELECT row_id, slot, NULL AS gate, error_type AS reason_code, message AS reason FROM stored.failures
   WHERE part_id IN (SELECT part_id FROM stored.dataset_parts WHERE ref = wanted AND table_name = 'failures');
-- diff(old, new): the rows that one version ('name@2') holds and the other does not. `reason_code` says why the other refused
-- the row; NULL when it was not among what the other chose from.
CREATE OR REPLACE MACRO diff(old, new) AS TABLE
  WITH a AS (SELECT DISTINCT row_id FROM members(old)), b AS (SELECT DISTINCT row_id FROM members(new)),
  gone AS (SELECT row_id FROM a WHERE row_id NOT IN (SELECT row_id FROM b)),
  come AS (SELECT row_id FROM b WHERE row_id NOT IN (SELECT row_id FROM a)),
  ra AS (SELECT DISTINCT ON (row_id) * FROM refusals(old) ORDER BY row_id, slot),
  rb AS (SELECT DISTINCT ON (row_id) * FROM refusals(new) ORDER BY row_id, slot)
  SELECT 'removed' AS change, gone.row_id, rb.gate, rb.reason_code, rb.reason FROM gone LEFT JOIN rb ON rb.row_id = gone.row_id
  UNION ALL
  SELECT 'added', come.row_id, ra.gate, ra.reason_code, ra.reason FROM come LEFT JOIN ra ON ra.row_id = come.row_id;
-- impact(root): how many rows of each published version descend from a source row.
CREATE OR REPLACE MACRO impact(root) AS TABLE
  SELECT ref, count(DISTINCT row_id) AS rows FROM row_roots WHERE root_row_id = root::BIGINT GROUP BY ref ORDER BY ref;
-- behind(checkpoint): every dataset version and checkpoint that a checkpoint ('name@2', or the latest of 'name') descends
-- from, nearest first, with the roles in which it took part: what only stands `against` gave no row to anything.
CREATE OR REPLACE MACRO behind(wanted) AS TABLE
  WITH RECURSIVE a(kind, ref, depth) AS (
    SELECT 'checkpoint', (SELECT ref FROM checkpoints WHERE ref = wanted OR name = wanted
      ORDER BY (ref = wanted) DESC, deleted, partial, version DESC LIMIT 1), 0
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
