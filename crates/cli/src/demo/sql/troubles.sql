-- What is wrong in labdb on purpose; demo/planted.rs names each with the check that finds it.
SET ROLE labuser;
SET search_path = public;
SET synchronous_commit = off;

-- the same index twice
CREATE INDEX orders_status_idx ON orders (status);

-- a busy table on which somebody turned autovacuum off "because it was slow"
CREATE TABLE login_sessions (
    user_id bigint PRIMARY KEY,
    token   text NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (autovacuum_enabled = false);
INSERT INTO login_sessions SELECT id, md5(random()::text), now() FROM users;
ALTER TABLE login_sessions ADD FOREIGN KEY (user_id) REFERENCES users;
CREATE INDEX login_sessions_seen_at_idx ON login_sessions (seen_at);
ANALYZE login_sessions;

-- shopping carts that a crash would empty
CREATE UNLOGGED TABLE carts (user_id bigint PRIMARY KEY, items jsonb NOT NULL);
INSERT INTO carts SELECT id, '["order 1"]' FROM users WHERE id % 5 = 0;

-- an import table without a key
CREATE TABLE task_imports (line int NOT NULL, title text NOT NULL);
INSERT INTO task_imports SELECT n, 'imported ' || n FROM generate_series(1, 5000) n;

-- a guard that was disabled for a night and forgotten
CREATE FUNCTION refuse_negative_total() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.total < 0 THEN RAISE EXCEPTION 'an order cannot be negative'; END IF;
    RETURN NEW;
END;
$$;
CREATE TRIGGER orders_guard BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION refuse_negative_total();
ALTER TABLE orders DISABLE TRIGGER orders_guard;

-- a function with its owner's rights that whoever calls it can lead astray
CREATE FUNCTION close_task(wanted bigint) RETURNS void LANGUAGE sql SECURITY DEFINER
AS $$ UPDATE public.tasks SET status = 'closed' WHERE id = wanted $$;

-- rights that everybody has
GRANT INSERT, UPDATE, DELETE ON orders TO PUBLIC;
RESET ROLE;
GRANT CREATE ON SCHEMA public TO PUBLIC;
