-- The application of the labs: users, projects, tasks, audit_logs with its trigger, and orders.
-- The numbers of rows come as settings demo.*, so that this file runs as it is in psql too.
SET ROLE labuser;
SET search_path = public;
SET synchronous_commit = off;

CREATE TABLE users (
    id           bigserial PRIMARY KEY,
    username     text NOT NULL UNIQUE,
    email        varchar(255) NOT NULL UNIQUE CHECK (email LIKE '%@%'),
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz
);
CREATE TABLE projects (
    id         bigserial PRIMARY KEY,
    name       text NOT NULL,
    owner_id   bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE tasks (
    id          bigserial PRIMARY KEY,
    title       text NOT NULL,
    project_id  bigint NOT NULL,
    assigned_to bigint,
    status      text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in_progress', 'blocked', 'closed')),
    priority    int NOT NULL DEFAULT 3 CHECK (priority BETWEEN 1 AND 5),
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE audit_logs (
    id          bigserial PRIMARY KEY,
    entity_type text NOT NULL,
    entity_id   bigint NOT NULL,
    action      text NOT NULL,
    changes     jsonb,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE orders (
    id         bigserial PRIMARY KEY,
    user_id    bigint NOT NULL,
    total      numeric(10, 2) NOT NULL CHECK (total >= 0),
    status     varchar(50) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO users (username, email, created_at, last_seen_at)
SELECT f || n, f || n || '@' || (ARRAY['example.com', 'example.org', 'mail.example'])[1 + n % 3],
       now() - random() * interval '900 days', now() - random() * interval '30 days'
FROM generate_series(1, current_setting('demo.users')::int) n,
     LATERAL (SELECT (ARRAY['anna', 'ben', 'carla', 'dimitri', 'elif', 'fatou', 'goran', 'hana', 'ivan', 'jun'])[1 + n % 10] f) name;

INSERT INTO projects (name, owner_id, created_at)
SELECT (ARRAY['Website', 'Billing', 'Mobile app', 'Data warehouse', 'Onboarding', 'Search', 'Migration'])[1 + n % 7] || ' ' || n,
       1 + floor(random() * current_setting('demo.users')::int)::int, now() - random() * interval '700 days'
FROM generate_series(1, current_setting('demo.projects')::int) n;

INSERT INTO tasks (title, project_id, assigned_to, status, priority, created_at)
SELECT (ARRAY['Fix', 'Review', 'Write', 'Measure', 'Remove', 'Deploy', 'Document'])[1 + floor(random() * 7)::int] || ' '
       || (ARRAY['the login form', 'the invoice export', 'the search index', 'a flaky test', 'the backup job',
                 'the price list', 'the terms page', 'the rate limiter'])[1 + floor(random() * 8)::int] || ' #' || n,
       1 + floor(random() * current_setting('demo.projects')::int)::int,
       CASE WHEN random() < 0.95 THEN 1 + floor(random() * current_setting('demo.users')::int)::int END,
       (ARRAY['open', 'open', 'in_progress', 'blocked', 'closed', 'closed', 'closed', 'closed'])[1 + floor(random() * 8)::int],
       1 + floor(random() * random() * 5)::int, now() - random() * interval '600 days'
FROM generate_series(1, current_setting('demo.tasks')::int) n;

INSERT INTO audit_logs (entity_type, entity_id, action, changes, created_at)
SELECT 'task', 1 + floor(random() * current_setting('demo.tasks')::int)::int, 'UPDATE',
       jsonb_build_object('old', jsonb_build_object('status', 'open'), 'new', jsonb_build_object('status', 'closed')),
       now() - (current_setting('demo.audit_logs')::int - n) * interval '1 minute'
FROM generate_series(1, current_setting('demo.audit_logs')::int) n;

INSERT INTO orders (user_id, total, status, created_at)
SELECT 1 + floor(random() * current_setting('demo.users')::int)::int, round((5 + random() * random() * 900)::numeric, 2),
       (ARRAY['paid', 'paid', 'shipped', 'delivered', 'delivered', 'delivered', 'returned', 'new'])[1 + floor(random() * 8)::int],
       now() - (current_setting('demo.orders')::int - n) * interval '20 seconds'
FROM generate_series(1, current_setting('demo.orders')::int) n;

-- After the rows: one join for each key is quicker than a look-up for each row.
ALTER TABLE projects ADD FOREIGN KEY (owner_id) REFERENCES users;
ALTER TABLE tasks ADD FOREIGN KEY (project_id) REFERENCES projects, ADD FOREIGN KEY (assigned_to) REFERENCES users;
ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users;

CREATE INDEX idx_projects_owner_id ON projects (owner_id);
CREATE INDEX idx_tasks_project_id ON tasks (project_id);
CREATE INDEX idx_audit_logs_entity ON audit_logs (entity_type, entity_id);
CREATE INDEX idx_orders_user_id ON orders (user_id);
CREATE INDEX idx_orders_status ON orders (status);
CREATE INDEX idx_orders_created_at ON orders (created_at);

CREATE FUNCTION log_task_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_logs (entity_type, entity_id, action, changes)
    VALUES ('task', NEW.id, TG_OP, jsonb_build_object('old', row_to_json(OLD), 'new', row_to_json(NEW)));
    RETURN NEW;
END;
$$;
CREATE TRIGGER task_audit_trigger AFTER UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION log_task_changes();
