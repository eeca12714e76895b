-- Roles of the order database on PostgreSQL: who may do what, and nobody more than that.
--
-- Run it as a superuser, in the order database, after `python -m order_service migrate`; again
-- after every migration that added a table. One transaction, which locks every table exclusively
-- until it ends; with psql, --set ON_ERROR_STOP=1. Passwords are yours to set:
-- ALTER ROLE checkout_order_service PASSWORD '…'. docs/audit.md says what each role is for.

BEGIN;

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'checkout_order_owner',    -- migrates: python -m order_service migrate
        'checkout_order_service',  -- serves, and runs needs-human
        'checkout_order_auditor',  -- verify, audit verify, audit export
        'checkout_order_privacy'   -- audit anonymise
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', role_name);
        END IF;
    END LOOP;
END $$;

-- Only the owner makes, changes and drops tables, and only it could switch their triggers off.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO
    checkout_order_service, checkout_order_auditor, checkout_order_privacy;
GRANT USAGE, CREATE ON SCHEMA public TO checkout_order_owner;

DO $$
DECLARE
    object regclass;
BEGIN
    FOR object IN
        SELECT oid FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO checkout_order_owner', object);
        EXECUTE format(
            'REVOKE ALL ON %s FROM PUBLIC, checkout_order_service, checkout_order_auditor,'
            ' checkout_order_privacy', object);
    END LOOP;
END $$;
ALTER FUNCTION refuse() OWNER TO checkout_order_owner;

-- The service. Of the audit trail it can write and read, never change or delete. The keys of
-- requests are the only rows that it ever deletes.
GRANT SELECT ON instance, order_service_schema_version TO checkout_order_service;
GRANT SELECT, INSERT ON
    order_items, order_audit_entries, order_audit_actors
    TO checkout_order_service;
GRANT SELECT, INSERT, UPDATE ON
    orders, payment_operations, payment_inbox
    TO checkout_order_service;
GRANT SELECT, UPDATE ON payment_feed TO checkout_order_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO checkout_order_service;

-- Who verifies changes nothing.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO checkout_order_auditor;

-- Who makes old actors anonymous deletes who they were, and nothing else.
GRANT SELECT ON
    instance, order_service_schema_version, order_audit_entries, order_audit_actors
    TO checkout_order_privacy;
GRANT DELETE ON order_audit_actors TO checkout_order_privacy;
GRANT INSERT ON order_audit_anonymisations TO checkout_order_privacy;
GRANT SELECT (id, ended_at, caller) ON payment_operations TO checkout_order_privacy;
GRANT UPDATE (caller, on_behalf_of) ON payment_operations TO checkout_order_privacy;

COMMIT;
