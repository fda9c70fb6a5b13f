-- 10,000 tables and 30,000 indexes: each table has a primary key fed by an identity column, an index on its account
-- and one on status and time. Every tenth has a foreign key; every thirtieth has rows.
SET client_min_messages = warning;

DO $$
BEGIN
    FOR part IN 0..19 LOOP
        EXECUTE format('CREATE SCHEMA app_%s', part);
    END LOOP;
    COMMIT;
    FOR n IN 1..10000 LOOP
        EXECUTE format($f$
            CREATE TABLE app_%1$s.t_%2$s (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                account_id bigint NOT NULL,
                status text NOT NULL DEFAULT 'new',
                created_at timestamptz NOT NULL DEFAULT now(),
                note text);
            CREATE INDEX ON app_%1$s.t_%2$s (account_id);
            CREATE INDEX ON app_%1$s.t_%2$s (status, created_at)
        $f$, n % 20, n);
        IF n % 10 = 0 THEN
            EXECUTE format('ALTER TABLE app_%s.t_%s ADD FOREIGN KEY (account_id) REFERENCES app_%s.t_%s',
                n % 20, n, (n - 9) % 20, n - 9);
        END IF;
        -- A transaction holds a lock on every relation that it made.
        IF n % 200 = 0 THEN
            COMMIT;
        END IF;
    END LOOP;
END $$;

DO $$
BEGIN
    FOR n IN 1..10000 LOOP
        CONTINUE WHEN n % 30 <> 1;
        EXECUTE format($f$
            INSERT INTO app_%s.t_%s (account_id, status, created_at, note)
            SELECT k %% 100, (ARRAY['new', 'open', 'done'])[1 + k %% 3], now() - k * interval '1 minute',
                repeat('x', 20 + (k %% 60)::int)
            FROM generate_series(1, 2000) AS k
        $f$, n % 20, n);
        IF n % 300 = 1 THEN
            EXECUTE format('DELETE FROM app_%s.t_%s WHERE id %% 4 = 0', n % 20, n);
        END IF;
        COMMIT;
    END LOOP;
END $$;
