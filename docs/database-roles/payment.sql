-- Roles of the payment database on PostgreSQL: who may do what, and nobody more than that.
--
-- Run it as a superuser, in the payment database, after `python -m payment_service migrate`; again
-- after every migration that added a table. One transaction, which locks every table exclusively
-- until it ends; with psql, --set ON_ERROR_STOP=1. Passwords are yours to set:
-- ALTER ROLE checkout_payment_service PASSWORD '…'. docs/audit.md says what each role is for.

BEGIN;

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'checkout_payment_owner',    -- migrates: python -m payment_service migrate
        'checkout_payment_service',  -- serves, and runs needs-human and settle
        'checkout_payment_auditor',  -- audit verify and export, and the order service's verify
        'checkout_payment_privacy'   -- audit anonymise
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', role_name);
        END IF;
    END LOOP;
END $$;

-- Only the owner makes, changes and drops tables, and only it could switch their triggers off.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO
    checkout_payment_service, checkout_payment_auditor, checkout_payment_privacy;
GRANT USAGE, CREATE ON SCHEMA public TO checkout_payment_owner;

DO $$
DECLARE
    object regclass;
BEGIN
    FOR object IN
        SELECT oid FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO checkout_payment_owner', object);
        EXECUTE format(
            'REVOKE ALL ON %s FROM PUBLIC, checkout_payment_service, checkout_payment_auditor,'
            ' checkout_payment_privacy', object);
    END LOOP;
END $$;
ALTER FUNCTION refuse() OWNER TO checkout_payment_owner;

-- The service. Of the audit trail it can write and read, never change or delete; it deletes no row
-- of any table.
GRANT SELECT ON instance, payment_service_schema_version TO checkout_payment_service;
GRANT SELECT, INSERT ON
    payment_audit_entries, payment_audit_actors
    TO checkout_payment_service;
GRANT SELECT, INSERT, UPDATE ON
    payment_orders, payments, refunds
    TO checkout_payment_service;

-- Who verifies changes nothing.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO checkout_payment_auditor;

-- Who makes old actors anonymous deletes who they were, and nothing else.
GRANT SELECT ON
    instance, payment_service_schema_version, payment_audit_entries, payment_audit_actors
    TO checkout_payment_privacy;
GRANT DELETE ON payment_audit_actors TO checkout_payment_privacy;
GRANT INSERT ON payment_audit_anonymisations TO checkout_payment_privacy;

COMMIT;
