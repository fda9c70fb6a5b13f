-- A second, small database. Sessions block one another here, and its payments run out of numbers.
SET ROLE labuser;
SET search_path = public;

CREATE TABLE invoices (
    id        bigserial PRIMARY KEY,
    order_id  bigint NOT NULL,
    amount    numeric(10, 2) NOT NULL,
    state     text NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO invoices (order_id, amount, state)
SELECT n, round((random() * 500)::numeric, 2), 'sent' FROM generate_series(1, 2000) n;

CREATE TABLE credit_notes (
    id         bigserial PRIMARY KEY,
    invoice_id bigint NOT NULL REFERENCES invoices (id),
    amount     numeric(10, 2) NOT NULL
);
INSERT INTO credit_notes (invoice_id, amount) SELECT n * 10, 10 FROM generate_series(1, 200) n;
CREATE INDEX ON credit_notes (invoice_id);

-- an int4 key near its end, 2^31 - 1
CREATE TABLE payments (
    id         serial PRIMARY KEY,
    invoice_id bigint NOT NULL REFERENCES invoices (id),
    paid_at    timestamptz NOT NULL DEFAULT now()
);
SELECT setval('payments_id_seq', 2040000000);
INSERT INTO payments (invoice_id) SELECT n FROM generate_series(1, 2000) n;
CREATE INDEX ON payments (invoice_id);
