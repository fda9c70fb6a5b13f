"""Which service of check_pgactivity and check_postgres answers the question of which check of surus.

A service is here when both ask the same thing of the server. Limits are given where the service insists on them, with
surus's own defaults where they can be expressed. Left out: services that need a standby, the internet or the host's
files, services without a check (database_size, hit_ratio), and stat_snapshot_age, which PostgreSQL 15 cannot answer.
"""

# service, its arguments, surus's checks
CHECK_PGACTIVITY = [
    ("connection", [], ["conn.reachable"]),
    ("backends", ["-w", "75%", "-c", "90%"], ["conn.saturation"]),
    ("backends_status", [], ["conn.idle_share"]),
    ("session_stats", [], ["conn.churn", "conn.abnormal_end"]),
    ("locks", ["-w", "50%", "-c", "80%"], ["lock.table_full"]),
    ("longest_query", ["-w", "5m", "-c", "30m"], ["q.long_running"]),
    ("oldest_idlexact", ["-w", "30s", "-c", "5m"], ["lock.idle_in_tx"]),
    ("oldest_2pc", ["-w", "5m", "-c", "1h"], ["vac.prepared"]),
    ("oldest_xmin", [], ["vac.horizon"]),
    ("max_freeze_age", ["-w", "500000000", "-c", "1200000000"], ["vac.xid"]),
    ("table_bloat", ["-w", "40%", "-c", "60%"], ["bloat.table"]),
    ("btree_bloat", ["-w", "40%", "-c", "60%"], ["idx.bloat"]),
    ("last_vacuum", ["-w", "7d", "-c", "30d"], ["vac.overdue"]),
    ("last_analyze", ["-w", "7d", "-c", "30d"], ["vac.stats_stale"]),
    ("autovacuum", [], ["vac.workers"]),
    ("invalid_indexes", [], ["idx.invalid"]),
    ("sequences_exhausted", ["-w", "75%", "-c", "90%"], ["seq.exhaust"]),
    ("table_unlogged", [], ["tbl.unlogged"]),
    ("extensions_versions", [], ["cfg.ext_outdated"]),
    ("checksum_errors", [], ["cfg.checksums"]),
    ("archiver", ["-w", "100", "-c", "500"], ["bkp.archive_queue", "bkp.archive_failing"]),
    ("wal_files", ["-w", "150%", "-c", "300%"], ["wal.dir"]),
    ("replication_slots", [], ["slot.retained", "slot.status"]),
    ("minor_version", ["--warning", "{version}"], ["srv.minor_version"]),
    ("configuration", [], ["cfg.durability_off", "cfg.shared_buffers", "cfg.planner_disabled"]),
    ("settings", [], ["cfg.drift"]),
    ("uptime", ["-w", "10m", "-c", "5m"], ["srv.restarted"]),
    ("temp_files", [], ["q.temp"]),
    ("commit_ratio", [], ["q.rollback"]),
    ("bgwriter", [], ["bgw.starved"]),
]

CHECK_POSTGRES = [
    ("connection", [], ["conn.reachable"]),
    ("backends", ["-w", "75%", "-c", "90%"], ["conn.saturation"]),
    ("locks", ["-w", "1000", "-c", "2000"], ["lock.table_full"]),
    ("query_time", ["-w", "5min", "-c", "30min"], ["q.long_running"]),
    ("txn_idle", ["-w", "30s", "-c", "5min"], ["lock.idle_in_tx"]),
    ("txn_time", ["-w", "10min", "-c", "60min"], ["vac.horizon"]),
    ("prepared_txns", ["-w", "300", "-c", "3600"], ["vac.prepared"]),
    ("txn_wraparound", ["-w", "500000000", "-c", "1200000000"], ["vac.xid"]),
    ("bloat", ["-w", "40%", "-c", "60%"], ["bloat.table", "idx.bloat"]),
    ("last_vacuum", ["-w", "7d", "-c", "30d"], ["vac.overdue"]),
    ("last_analyze", ["-w", "7d", "-c", "30d"], ["vac.stats_stale"]),
    ("sequence", ["-w", "75%", "-c", "90%"], ["seq.exhaust"]),
    ("archive_ready", ["-w", "100", "-c", "500"], ["bkp.archive_queue", "bkp.archive_failing"]),
    ("wal_files", ["-w", "150", "-c", "300"], ["wal.dir"]),
    ("replication_slots", ["-w", "5GB", "-c", "20GB"], ["slot.retained", "slot.status"]),
    ("settings_checksum", ["--critical={checksum}"], ["cfg.drift"]),
    ("version", ["-w", "{version}"], ["srv.minor_version"]),
    ("disabled_triggers", [], ["trg.disabled"]),
    ("commitratio", ["-w", "70%", "-c", "30%"], ["q.rollback"]),
]
