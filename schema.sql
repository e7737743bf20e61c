-- Budget Sync: every table, constraint and index, one text for SQLite and PostgreSQL.
--
-- Amounts are integers in minor units (cents, yen, fils), in columns whose names end in "Minor".
-- The database generates the whole-unit columns that people query from them, so the two always
-- agree. A generated column sees only its own row, so each such table has the currency's exponent;
-- foreign keys keep it equal to the budget's. Amounts of 10^15 minor units and more are rejected:
-- 15 digits are exact in every number format that clients use. Times are UTC.
--
-- Each statement ends with a semicolon at the end of a line. `flask init-db` also creates the
-- triggers and the generated keys, whose syntax differs between the engines.

CREATE TABLE "SchemaVersion" (
    "version" INTEGER PRIMARY KEY,
    "appliedAt" TIMESTAMPTZ NOT NULL
);

-- The tenant. No customer can see or change anything of another customer. A commit may exceed what
-- its request still holds by the share "invoiceToleranceBasisPoints" (hundredths of a percent), but
-- at most by "invoiceToleranceMinor", or by the auto-approve limit if that is null. An open
-- reservation expires after "holdDays"; null means never. "employeesSee" says which budgets employees
-- read: all, or only those of departments they have requests in. A test customer is one for good: only
-- its rows may be deleted from the append-only tables.
CREATE TABLE "Customer" (
    "id" TEXT PRIMARY KEY CHECK (LENGTH("id") BETWEEN 1 AND 100),
    "name" TEXT NOT NULL CHECK (LENGTH("name") BETWEEN 1 AND 200),
    "currency" TEXT NOT NULL CHECK (LENGTH("currency") = 3),
    "currencyExponent" INTEGER NOT NULL CHECK ("currencyExponent" BETWEEN 0 AND 4),
    "autoApproveLimitMinor" BIGINT CHECK ("autoApproveLimitMinor" >= 0 AND "autoApproveLimitMinor" < 1000000000000000),
    "autoApproveLimit" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "autoApproveLimitMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "timeZone" TEXT NOT NULL DEFAULT 'UTC',
    "fiscalYearStartMonth" INTEGER NOT NULL DEFAULT 1 CHECK ("fiscalYearStartMonth" BETWEEN 1 AND 12),
    "fiscalYearNamedBy" TEXT NOT NULL DEFAULT 'end' CHECK ("fiscalYearNamedBy" IN ('end', 'start')),
    "invoiceToleranceBasisPoints" INTEGER NOT NULL DEFAULT 1000 CHECK ("invoiceToleranceBasisPoints" BETWEEN 0 AND 10000),
    "invoiceToleranceMinor" BIGINT CHECK ("invoiceToleranceMinor" >= 0 AND "invoiceToleranceMinor" < 1000000000000000),
    "holdDays" INTEGER CHECK ("holdDays" BETWEEN 1 AND 3650),
    "employeesSee" TEXT NOT NULL DEFAULT 'all' CHECK ("employeesSee" IN ('all', 'own')),
    "isTest" BOOLEAN NOT NULL DEFAULT FALSE,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "disabledAt" TIMESTAMPTZ
);

-- A person. Only a super admin may have no customer, which means all customers. "provider" and
-- "subject" are the person's account at an identity provider.
CREATE TABLE "User" (
    "id" TEXT PRIMARY KEY CHECK (LENGTH("id") BETWEEN 1 AND 100),
    "customerId" TEXT REFERENCES "Customer" ("id"),
    "name" TEXT NOT NULL CHECK (LENGTH("name") BETWEEN 1 AND 200),
    "email" TEXT NOT NULL CHECK (LENGTH("email") BETWEEN 3 AND 254),
    "emailKey" TEXT NOT NULL UNIQUE,
    "role" TEXT NOT NULL CHECK ("role" IN ('super_admin', 'admin', 'fpa_admin', 'fpa_user', 'manager', 'business_user', 'api_system')),
    "passwordHash" TEXT,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "disabledAt" TIMESTAMPTZ,
    "lastLoginAt" TIMESTAMPTZ,
    "provider" TEXT,
    "subject" TEXT CONSTRAINT "User_subject" CHECK (("provider" IS NULL) = ("subject" IS NULL)),
    CHECK ("customerId" IS NOT NULL OR "role" = 'super_admin')
);

CREATE UNIQUE INDEX "User_provider_subject" ON "User" ("provider", "subject") WHERE "provider" IS NOT NULL;
CREATE INDEX "User_customerId" ON "User" ("customerId");

-- A signed-in browser or client. The cookie holds the token; this table has only its hash.
CREATE TABLE "Session" (
    "tokenHash" TEXT PRIMARY KEY,
    "userId" TEXT NOT NULL REFERENCES "User" ("id"),
    "createdAt" TIMESTAMPTZ NOT NULL,
    "expiresAt" TIMESTAMPTZ NOT NULL
);

CREATE INDEX "Session_userId" ON "Session" ("userId");

-- Logins that failed or have not succeeded yet. "account" is a hash of the email address;
-- "attemptedAt" is in seconds since 1970, in UTC.
CREATE TABLE "LoginAttempt" (
    "id" INTEGER PRIMARY KEY,
    "account" TEXT NOT NULL,
    "network" TEXT NOT NULL,
    "attemptedAt" BIGINT NOT NULL
);

CREATE INDEX "LoginAttempt_network" ON "LoginAttempt" ("network", "account");

-- A service's API key. No customer means all customers. All keys with the same name and customer are
-- the same service. "scopes" are separated by spaces; null means all.
CREATE TABLE "ApiKey" (
    "id" TEXT PRIMARY KEY,
    "customerId" TEXT REFERENCES "Customer" ("id"),
    "name" TEXT NOT NULL CHECK (LENGTH("name") BETWEEN 1 AND 200),
    "secretHash" TEXT NOT NULL,
    "mayOverspend" BOOLEAN NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "revokedAt" TIMESTAMPTZ,
    "lastUsedAt" TIMESTAMPTZ,
    "scopes" TEXT CHECK (LENGTH("scopes") BETWEEN 1 AND 200),
    "expiresAt" TIMESTAMPTZ
);

-- A source: the origin of a customer's budgets, a Google Sheet, a CSV file or an Excel file. A file
-- without "csvPath" was uploaded and is in "SourceFile". "reading" says how the sheet is read; it is
-- null until a person confirms it. It and "readingFacts" are JSON. "title" is the name of the
-- spreadsheet when it was last read.
CREATE TABLE "BudgetDataSourceConfig" (
    "id" TEXT PRIMARY KEY,
    "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
    "sourceType" TEXT NOT NULL CHECK ("sourceType" IN ('google_sheets', 'csv', 'xlsx')),
    "spreadsheetKey" TEXT,
    "worksheet" TEXT,
    "worksheetGid" BIGINT,
    "title" TEXT,
    "csvPath" TEXT,
    "reading" TEXT,
    "readingConfirmedBy" TEXT,
    "readingConfirmedAt" TIMESTAMPTZ,
    "readingFacts" TEXT,
    "isActive" BOOLEAN NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "removedAt" TIMESTAMPTZ,
    UNIQUE ("id", "customerId"),
    CHECK (("sourceType" = 'google_sheets') = ("spreadsheetKey" IS NOT NULL)),
    CHECK ("sourceType" <> 'google_sheets' OR "csvPath" IS NULL),
    CHECK (("reading" IS NULL) = ("readingConfirmedBy" IS NULL) AND ("reading" IS NULL) = ("readingConfirmedAt" IS NULL)),
    CHECK ("reading" IS NOT NULL OR "readingFacts" IS NULL)
);

CREATE INDEX "BudgetDataSourceConfig_customerId" ON "BudgetDataSourceConfig" ("customerId");

-- A file that was uploaded for a source. Sync runs read the current one; the pending one waits for
-- the confirmation of its reading.
CREATE TABLE "SourceFile" (
    "sourceId" TEXT NOT NULL,
    "customerId" TEXT NOT NULL,
    "state" TEXT NOT NULL CHECK ("state" IN ('current', 'pending')),
    "name" TEXT NOT NULL CHECK (LENGTH("name") BETWEEN 1 AND 255),
    "content" BYTEA NOT NULL,
    "uploadedBy" TEXT NOT NULL,
    "uploadedAt" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("sourceId", "state"),
    FOREIGN KEY ("sourceId", "customerId") REFERENCES "BudgetDataSourceConfig" ("id", "customerId")
);

-- The amount that a department may spend in a fiscal period: one row of the finance team's sheet.
-- Alerts about the budget can go to "ownerEmail".
CREATE TABLE "Budget" (
    "id" TEXT PRIMARY KEY CHECK (LENGTH("id") BETWEEN 1 AND 100),
    "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
    "sourceId" TEXT,
    "externalId" TEXT,
    "sourceRow" INTEGER,
    "department" TEXT NOT NULL CHECK (LENGTH("department") BETWEEN 1 AND 200),
    "departmentKey" TEXT NOT NULL,
    "fiscalPeriod" TEXT NOT NULL CHECK (LENGTH("fiscalPeriod") BETWEEN 1 AND 100),
    "periodKey" TEXT NOT NULL,
    "currency" TEXT NOT NULL CHECK (LENGTH("currency") = 3),
    "currencyExponent" INTEGER NOT NULL CHECK ("currencyExponent" BETWEEN 0 AND 4),
    "budgetedMinor" BIGINT NOT NULL CHECK ("budgetedMinor" >= 0 AND "budgetedMinor" < 1000000000000000),
    "budgetedAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "budgetedMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "autoApproveLimitMinor" BIGINT CHECK ("autoApproveLimitMinor" >= 0 AND "autoApproveLimitMinor" < 1000000000000000),
    "autoApproveLimit" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "autoApproveLimitMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "ownerEmail" TEXT CHECK (LENGTH("ownerEmail") BETWEEN 3 AND 254),
    "createdAt" TIMESTAMPTZ NOT NULL,
    "updatedAt" TIMESTAMPTZ NOT NULL,
    "deletedAt" TIMESTAMPTZ,
    UNIQUE ("id", "customerId", "currencyExponent"),
    FOREIGN KEY ("sourceId", "customerId") REFERENCES "BudgetDataSourceConfig" ("id", "customerId")
);

CREATE UNIQUE INDEX "Budget_live_department_period" ON "Budget" ("customerId", "departmentKey", "periodKey") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "Budget_externalId" ON "Budget" ("customerId", "externalId") WHERE "externalId" IS NOT NULL;
CREATE INDEX "Budget_sourceId" ON "Budget" ("sourceId");

-- Other names of departments. A check of a department that has no budget looks for its alias.
CREATE TABLE "DepartmentAlias" (
    "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
    "nameKey" TEXT NOT NULL,
    "name" TEXT NOT NULL CHECK (LENGTH("name") BETWEEN 1 AND 200),
    "department" TEXT NOT NULL CHECK (LENGTH("department") BETWEEN 1 AND 200),
    "departmentKey" TEXT NOT NULL,
    "createdBy" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("customerId", "nameKey"),
    CONSTRAINT "DepartmentAlias_other" CHECK ("nameKey" <> "departmentKey")
);

-- The reserved and committed amounts of a budget: one row per budget, created with it. "version" is
-- the number of audit rows of the budget. A sheet may cut a budget below the reserved and committed
-- amounts, so no constraint compares them with "budgetedMinor". But the ceiling of 10^15 minor units
-- holds for them together, so every figure of a budget is exact, and no sum of a budget overflows.
CREATE TABLE "BudgetUtilization" (
    "budgetId" TEXT PRIMARY KEY,
    "customerId" TEXT NOT NULL,
    "currencyExponent" INTEGER NOT NULL,
    "reservedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("reservedMinor" >= 0 AND "reservedMinor" < 1000000000000000),
    "committedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("committedMinor" >= 0 AND "committedMinor" < 1000000000000000),
    "version" BIGINT NOT NULL DEFAULT 0 CHECK ("version" >= 0),
    "reservedAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "reservedMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "committedAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "committedMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    FOREIGN KEY ("budgetId", "customerId", "currencyExponent") REFERENCES "Budget" ("id", "customerId", "currencyExponent"),
    CHECK ("reservedMinor" + "committedMinor" < 1000000000000000)
);

-- Money set aside on one budget for one request. Open until all of it is committed or released.
-- "version" is that of its latest audit row. "amountMinor" is the amount of the first reserve.
-- "adjustedMinor" is what later changes added to the hold: amendments, and reversals that hold the
-- money again. "exceededMinor" is the part of a commit above the reserved amount; "reversedMinor" is
-- the part of "committedMinor" that was returned. FP&A has approved it for "approvedMinor", held and
-- committed together; "approvedAfterCheck" is the newest check of the request at that time.
CREATE TABLE "Reservation" (
    "seq" INTEGER PRIMARY KEY,
    "id" TEXT NOT NULL UNIQUE,
    "customerId" TEXT NOT NULL,
    "budgetId" TEXT NOT NULL,
    "requestId" TEXT NOT NULL CHECK (LENGTH("requestId") BETWEEN 1 AND 200),
    "requesterId" TEXT NOT NULL,
    "requesterName" TEXT NOT NULL,
    "requesterEmail" TEXT NOT NULL,
    "currencyExponent" INTEGER NOT NULL,
    "amountMinor" BIGINT NOT NULL CHECK ("amountMinor" > 0 AND "amountMinor" < 1000000000000000),
    "heldMinor" BIGINT NOT NULL CHECK ("heldMinor" >= 0),
    "committedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("committedMinor" >= 0),
    "releasedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("releasedMinor" >= 0),
    "exceededMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("exceededMinor" >= 0),
    "adjustedMinor" BIGINT NOT NULL DEFAULT 0,
    "reversedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("reversedMinor" >= 0),
    "approvedMinor" BIGINT CHECK ("approvedMinor" > 0),
    "approvedAfterCheck" BIGINT CONSTRAINT "Reservation_approved" CHECK (("approvedMinor" IS NULL) = ("approvedAfterCheck" IS NULL)),
    "version" BIGINT NOT NULL CHECK ("version" > 0),
    "status" TEXT NOT NULL CHECK ("status" IN ('open', 'closed')),
    "amount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "amountMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "heldAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "heldMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "expiresAt" TIMESTAMPTZ,
    "closedAt" TIMESTAMPTZ,
    "closedAfterCheck" BIGINT,
    "reserveReply" TEXT NOT NULL,
    "closingCall" TEXT,
    "closingReply" TEXT,
    FOREIGN KEY ("budgetId", "customerId", "currencyExponent") REFERENCES "Budget" ("id", "customerId", "currencyExponent"),
    CHECK ("heldMinor" = "amountMinor" + "adjustedMinor" + "exceededMinor" - "committedMinor" - "releasedMinor"),
    CHECK (("status" = 'open') = ("heldMinor" > 0)),
    CHECK (("status" = 'closed') = ("closedAt" IS NOT NULL AND "closedAfterCheck" IS NOT NULL AND "closingCall" IS NOT NULL AND "closingReply" IS NOT NULL)),
    CONSTRAINT "Reservation_reversed" CHECK ("reversedMinor" <= "committedMinor")
);

CREATE UNIQUE INDEX "Reservation_open" ON "Reservation" ("budgetId", "requestId") WHERE "status" = 'open';
CREATE INDEX "Reservation_open_age" ON "Reservation" ("customerId", "createdAt") WHERE "status" = 'open';
CREATE INDEX "Reservation_request" ON "Reservation" ("customerId", "requestId");
CREATE INDEX "Reservation_requester" ON "Reservation" ("customerId", "requesterId", "budgetId");
CREATE INDEX "Reservation_expiry" ON "Reservation" ("expiresAt") WHERE "status" = 'open' AND "expiresAt" IS NOT NULL;

-- Money that was spent without a reservation, such as a card payment. "spendId" is the caller's id of
-- it; audit rows have it as "requestId", without a "reservationId". "reversedMinor" was returned.
-- "version" is that of its latest audit row.
CREATE TABLE "Spend" (
    "seq" INTEGER PRIMARY KEY,
    "customerId" TEXT NOT NULL,
    "budgetId" TEXT NOT NULL,
    "spendId" TEXT NOT NULL CHECK (LENGTH("spendId") BETWEEN 1 AND 200),
    "currencyExponent" INTEGER NOT NULL,
    "amountMinor" BIGINT NOT NULL CHECK ("amountMinor" > 0 AND "amountMinor" < 1000000000000000),
    "reversedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("reversedMinor" >= 0),
    "version" BIGINT NOT NULL CHECK ("version" > 0),
    "amount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "amountMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "spentOn" DATE NOT NULL,
    "vendor" TEXT,
    "reason" TEXT NOT NULL,
    "externalRef" TEXT,
    "recordedBy" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "reply" TEXT NOT NULL,
    UNIQUE ("customerId", "spendId"),
    FOREIGN KEY ("budgetId", "customerId", "currencyExponent") REFERENCES "Budget" ("id", "customerId", "currencyExponent"),
    CONSTRAINT "Spend_reversed" CHECK ("reversedMinor" <= "amountMinor")
);

CREATE INDEX "Spend_budgetId" ON "Spend" ("budgetId");

-- Replies by Idempotency-Key, stored in the same transaction as the movement that they report.
-- "principal" is the user, or the service by its name: a new API key of that name continues them.
CREATE TABLE "StoredReply" (
    "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
    "principal" TEXT NOT NULL,
    "call" TEXT NOT NULL,
    "idempotencyKey" TEXT NOT NULL CHECK (LENGTH("idempotencyKey") BETWEEN 1 AND 255),
    "bodyHash" TEXT NOT NULL,
    "reply" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("customerId", "principal", "call", "idempotencyKey")
);

-- Every well-formed check of a known customer, with its answer. "checkedBy" is the authenticated
-- caller, or null. The index by time has "budgetId" as well, for the look-up of a budget that is
-- deleted: one more index would cost each check more.
CREATE TABLE "BudgetCheckLog" (
    "id" INTEGER PRIMARY KEY,
    "checkId" TEXT NOT NULL,
    "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
    "requestId" TEXT NOT NULL,
    "userId" TEXT NOT NULL,
    "userName" TEXT NOT NULL,
    "userEmail" TEXT NOT NULL,
    "checkedBy" TEXT,
    "department" TEXT NOT NULL,
    "fiscalPeriod" TEXT NOT NULL,
    "currency" TEXT NOT NULL,
    "currencyExponent" INTEGER NOT NULL CHECK ("currencyExponent" BETWEEN 0 AND 4),
    "amountMinor" BIGINT NOT NULL CHECK ("amountMinor" > 0 AND "amountMinor" < 1000000000000000),
    "amount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "amountMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "vendor" TEXT,
    "purpose" TEXT,
    "budgetId" TEXT REFERENCES "Budget" ("id"),
    "available" BOOLEAN NOT NULL,
    "canAutoApprove" BOOLEAN NOT NULL,
    "code" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "response" TEXT NOT NULL,
    "durationMs" INTEGER NOT NULL CHECK ("durationMs" >= 0),
    "timestamp" TIMESTAMPTZ NOT NULL
);

CREATE INDEX "BudgetCheckLog_request" ON "BudgetCheckLog" ("customerId", "requestId");
CREATE INDEX "BudgetCheckLog_timestamp" ON "BudgetCheckLog" ("timestamp", "budgetId");
CREATE INDEX "BudgetCheckLog_approval" ON "BudgetCheckLog" ("customerId", "requestId") WHERE "code" = 'REQUIRES_APPROVAL';
CREATE INDEX "BudgetCheckLog_uncovered" ON "BudgetCheckLog" ("customerId", "timestamp") WHERE "available" = FALSE;

-- The actions that the audit log records. It is a table, not a CHECK of "AuditLog", so that an upgrade
-- can add an action without rewriting the log. The rows belong to the schema: each database of a
-- schema version has the same ones.
CREATE TABLE "AuditAction" (
    "action" TEXT PRIMARY KEY CHECK (LENGTH("action") BETWEEN 1 AND 50)
);

INSERT INTO "AuditAction" ("action") VALUES
    ('CREATE'), ('UPDATE'), ('SOFT_DELETE'), ('REVIVE'), ('RESERVE'), ('OVER_BUDGET'), ('COMMIT'), ('RELEASE'),
    ('AMEND'), ('TRANSFER'), ('EXTEND'), ('REVERSE'), ('SPEND'), ('APPROVE'), ('DECLINE'),
    ('ADD_CUSTOMER'), ('SET_CUSTOMER'), ('DISABLE_CUSTOMER'), ('ENABLE_CUSTOMER'), ('RESET_CUSTOMER'),
    ('ADD_USER'), ('SET_USER'), ('SET_PASSWORD'), ('DISABLE_USER'), ('ENABLE_USER'),
    ('ADD_KEY'), ('ROTATE_KEY'), ('REVOKE_KEY'), ('ADD_SOURCE'), ('REMOVE_SOURCE'),
    ('ADD_WEBHOOK'), ('ROTATE_WEBHOOK'), ('PAUSE_WEBHOOK'), ('RESUME_WEBHOOK'), ('REMOVE_WEBHOOK'),
    ('ADD_ALERT'), ('REMOVE_ALERT'), ('ADD_ALIAS'), ('REMOVE_ALIAS'),
    ('SET_READING'), ('SET_FILE'), ('ANSWER_HOLD'), ('SET_ROLE'), ('LINK_USER'),
    ('PRUNE_CHECKS'), ('PRUNE_HISTORY'), ('RESTORE');

-- Append-only. One row for every movement and every change of a budget, numbered by "version"
-- within the budget. The sums of the deltas are the balances; each row also has the balance after it,
-- so that any past balance is one row. Rows without a budget record changes
-- of people, keys, sources and logs; RESTORE records that the whole database was restored. Rows
-- that one call wrote together have the same "transferId": both rows of a move to another budget, an
-- approval over budget and its commit, a reversal of several commits. "afterCheck" of APPROVE and
-- DECLINE is the newest check of the request that the decision is about.
CREATE TABLE "AuditLog" (
    "id" INTEGER PRIMARY KEY,
    "customerId" TEXT REFERENCES "Customer" ("id"),
    "budgetId" TEXT REFERENCES "Budget" ("id"),
    "version" BIGINT CHECK ("version" > 0),
    "action" TEXT NOT NULL REFERENCES "AuditAction" ("action"),
    "field" TEXT,
    "subject" TEXT,
    "requestId" TEXT,
    "reservationId" TEXT,
    "oldValue" TEXT,
    "newValue" TEXT,
    "budgetedDeltaMinor" BIGINT NOT NULL DEFAULT 0,
    "reservedDeltaMinor" BIGINT NOT NULL DEFAULT 0,
    "committedDeltaMinor" BIGINT NOT NULL DEFAULT 0,
    "budgetedMinor" BIGINT,
    "reservedMinor" BIGINT,
    "committedMinor" BIGINT,
    "principal" TEXT NOT NULL,
    "changedBy" TEXT NOT NULL,
    "onBehalfOf" TEXT,
    "approvedBy" TEXT,
    "reason" TEXT,
    "externalRef" TEXT,
    "transferId" TEXT,
    "afterCheck" BIGINT,
    "createdAt" TIMESTAMPTZ NOT NULL,
    UNIQUE ("budgetId", "version"),
    CHECK (("budgetId" IS NULL) = ("version" IS NULL)),
    CHECK ("budgetId" IS NOT NULL OR ("budgetedDeltaMinor" = 0 AND "reservedDeltaMinor" = 0 AND "committedDeltaMinor" = 0))
);

CREATE INDEX "AuditLog_customer" ON "AuditLog" ("customerId", "id");
CREATE INDEX "AuditLog_request" ON "AuditLog" ("customerId", "requestId") WHERE "requestId" IS NOT NULL;
CREATE INDEX "AuditLog_externalRef" ON "AuditLog" ("customerId", "externalRef") WHERE "externalRef" IS NOT NULL;
CREATE INDEX "AuditLog_balance" ON "AuditLog" ("budgetId", "createdAt", "version") WHERE "budgetId" IS NOT NULL;
CREATE INDEX "AuditLog_deletion" ON "AuditLog" ("budgetId", "version") WHERE "action" IN ('SOFT_DELETE', 'REVIVE');
CREATE INDEX "AuditLog_spent" ON "AuditLog" ("customerId", "createdAt") WHERE "committedDeltaMinor" <> 0;
CREATE INDEX "AuditLog_prune" ON "AuditLog" ("customerId", "newValue") WHERE "action" = 'PRUNE_CHECKS';

-- One sync run of one source. "errors", "held" and "notes" are JSON lists, "skippedRows" and "facts"
-- JSON objects. "held" are the changes that wait for an answer: kind, budgetId, department, period,
-- old, new.
CREATE TABLE "SyncHistory" (
    "id" INTEGER PRIMARY KEY,
    "syncId" TEXT NOT NULL UNIQUE,
    "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
    "sourceId" TEXT NOT NULL,
    "status" TEXT NOT NULL CHECK ("status" IN ('success', 'partial', 'failed', 'skipped')),
    "createdCount" INTEGER NOT NULL DEFAULT 0,
    "updatedCount" INTEGER NOT NULL DEFAULT 0,
    "unchangedCount" INTEGER NOT NULL DEFAULT 0,
    "softDeletedCount" INTEGER NOT NULL DEFAULT 0,
    "revivedCount" INTEGER NOT NULL DEFAULT 0,
    "heldCount" INTEGER NOT NULL DEFAULT 0,
    "errorCount" INTEGER NOT NULL DEFAULT 0,
    "overdrawnCount" INTEGER NOT NULL DEFAULT 0,
    "message" TEXT,
    "errors" TEXT NOT NULL DEFAULT '[]',
    "held" TEXT NOT NULL DEFAULT '[]',
    "notes" TEXT NOT NULL DEFAULT '[]',
    "skippedRows" TEXT NOT NULL DEFAULT '{}',
    "facts" TEXT,
    "startedBy" TEXT NOT NULL,
    "durationMs" INTEGER NOT NULL CHECK ("durationMs" >= 0),
    "startTime" TIMESTAMPTZ NOT NULL,
    "endTime" TIMESTAMPTZ NOT NULL,
    FOREIGN KEY ("sourceId", "customerId") REFERENCES "BudgetDataSourceConfig" ("id", "customerId")
);

CREATE INDEX "SyncHistory_customer" ON "SyncHistory" ("customerId", "startTime");
CREATE INDEX "SyncHistory_source" ON "SyncHistory" ("sourceId", "id");

-- A person's answer to a held change, with what it was given for: another change of the budget is
-- another question. The sync run that applies an answer, or finds that its change is no longer held,
-- closes it once; "closedBySyncId" is the "syncId" of that run. Otherwise append-only.
CREATE TABLE "HoldAnswer" (
    "id" INTEGER PRIMARY KEY,
    "customerId" TEXT NOT NULL,
    "sourceId" TEXT NOT NULL,
    "kind" TEXT NOT NULL CHECK ("kind" IN ('rename', 'deletion', 'creation', 'amount')),
    "answer" TEXT NOT NULL,
    "budgetId" TEXT,
    "newDepartmentKey" TEXT,
    "newPeriodKey" TEXT,
    "currency" TEXT NOT NULL CHECK (LENGTH("currency") = 3),
    "currencyExponent" INTEGER NOT NULL CHECK ("currencyExponent" BETWEEN 0 AND 4),
    "newMinor" BIGINT CHECK ("newMinor" >= 0 AND "newMinor" < 1000000000000000),
    "newAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "newMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "answeredBy" TEXT NOT NULL,
    "answeredAt" TIMESTAMPTZ NOT NULL,
    "outcome" TEXT CHECK ("outcome" IN ('applied', 'expired')),
    "closedBySyncId" TEXT,
    "closedAt" TIMESTAMPTZ,
    FOREIGN KEY ("sourceId", "customerId") REFERENCES "BudgetDataSourceConfig" ("id", "customerId"),
    FOREIGN KEY ("budgetId", "customerId", "currencyExponent") REFERENCES "Budget" ("id", "customerId", "currencyExponent"),
    CHECK (CASE "kind" WHEN 'rename' THEN "answer" IN ('same', 'different') WHEN 'deletion' THEN "answer" = 'approve' WHEN 'creation' THEN "answer" IN ('approve', 'apply') ELSE "answer" = 'apply' END),
    CHECK (("kind" = 'creation') = ("budgetId" IS NULL)),
    CHECK (("kind" IN ('rename', 'creation')) = ("newDepartmentKey" IS NOT NULL)),
    CHECK (("kind" IN ('rename', 'creation')) = ("newPeriodKey" IS NOT NULL)),
    CHECK (("kind" = 'deletion') = ("newMinor" IS NULL)),
    CHECK (("outcome" IS NULL) = ("closedBySyncId" IS NULL) AND ("outcome" IS NULL) = ("closedAt" IS NULL))
);

CREATE INDEX "HoldAnswer_open" ON "HoldAnswer" ("sourceId") WHERE "outcome" IS NULL;

-- An address that is sent the events of a customer, in order. "cursor" is the position after the
-- last event that was delivered or passed. "types" are separated by commas; null means all. The
-- previous secret signs, too, until "previousSecretUntil". "failingSince" and "attempts" are those of
-- the event that is being tried. A webhook that is paused gets no events until it is resumed. A
-- removed one has no secret.
CREATE TABLE "Webhook" (
    "id" TEXT PRIMARY KEY,
    "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
    "url" TEXT NOT NULL CHECK (LENGTH("url") BETWEEN 1 AND 2000),
    "types" TEXT,
    "secret" TEXT NOT NULL,
    "previousSecret" TEXT,
    "previousSecretUntil" TIMESTAMPTZ,
    "cursor" TEXT NOT NULL,
    "attempts" INTEGER NOT NULL DEFAULT 0 CHECK ("attempts" >= 0),
    "failingSince" TIMESTAMPTZ,
    "nextAttemptAt" TIMESTAMPTZ,
    "lastDeliveredAt" TIMESTAMPTZ,
    "pausedAt" TIMESTAMPTZ,
    "pauseReason" TEXT,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "removedAt" TIMESTAMPTZ,
    CONSTRAINT "Webhook_previousSecret" CHECK (("previousSecret" IS NULL) = ("previousSecretUntil" IS NULL)),
    CONSTRAINT "Webhook_pauseReason" CHECK (("pausedAt" IS NULL) = ("pauseReason" IS NULL))
);

CREATE INDEX "Webhook_customerId" ON "Webhook" ("customerId");

-- The latest attempts of each webhook, for people. "status" is the HTTP status of the reply.
CREATE TABLE "WebhookAttempt" (
    "id" INTEGER PRIMARY KEY,
    "webhookId" TEXT NOT NULL REFERENCES "Webhook" ("id"),
    "eventId" TEXT NOT NULL,
    "eventType" TEXT NOT NULL,
    "attempt" INTEGER NOT NULL CHECK ("attempt" > 0),
    "status" INTEGER,
    "error" TEXT,
    "durationMs" INTEGER NOT NULL CHECK ("durationMs" >= 0),
    "attemptedAt" TIMESTAMPTZ NOT NULL
);

CREATE INDEX "WebhookAttempt_webhookId" ON "WebhookAttempt" ("webhookId", "id");

-- An alert: conditions to report to people. "url" is an Apprise address, with its password;
-- "redactedUrl" is what people see of it.
-- "conditions" are separated by commas. With "toOwners", a message about a budget goes to the
-- budget's owner. "digestAt" is a time of day in the customer's time zone, such as 08:00; null means
-- at once. "cursor" is the position in the events up to which messages were created. A removed alert
-- has an empty address.
CREATE TABLE "Alert" (
    "id" TEXT PRIMARY KEY,
    "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
    "url" TEXT NOT NULL CHECK (LENGTH("url") <= 2000),
    "redactedUrl" TEXT NOT NULL CHECK (LENGTH("redactedUrl") BETWEEN 1 AND 2000),
    "conditions" TEXT NOT NULL CHECK (LENGTH("conditions") BETWEEN 1 AND 500),
    "department" TEXT,
    "departmentKey" TEXT,
    "toOwners" BOOLEAN NOT NULL,
    "digestAt" TEXT CHECK (LENGTH("digestAt") = 5),
    "cursor" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "removedAt" TIMESTAMPTZ,
    CONSTRAINT "Alert_department" CHECK (("department" IS NULL) = ("departmentKey" IS NULL)),
    CONSTRAINT "Alert_removed" CHECK (("removedAt" IS NULL) = ("url" <> ''))
);

CREATE INDEX "Alert_customerId" ON "Alert" ("customerId");

-- The conditions of an alert that were reported and have not ended: a threshold and its budget, a
-- reservation that is open for too long. Without this row, the condition is reported when it holds.
CREATE TABLE "AlertState" (
    "alertId" TEXT NOT NULL REFERENCES "Alert" ("id"),
    "condition" TEXT NOT NULL,
    "subject" TEXT NOT NULL,
    "reportedAt" TIMESTAMPTZ NOT NULL,
    PRIMARY KEY ("alertId", "condition", "subject")
);

-- Messages of alerts, in the order in which they are sent. "recipient" is a budget's owner; null means
-- the alert's own address. "dueAt" is later than "createdAt" if the message waits for a digest.
CREATE TABLE "AlertMessage" (
    "id" INTEGER PRIMARY KEY,
    "alertId" TEXT NOT NULL REFERENCES "Alert" ("id"),
    "recipient" TEXT,
    "title" TEXT NOT NULL,
    "body" TEXT NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "dueAt" TIMESTAMPTZ NOT NULL,
    "attempts" INTEGER NOT NULL DEFAULT 0 CHECK ("attempts" >= 0),
    "nextAttemptAt" TIMESTAMPTZ,
    "error" TEXT,
    "sentAt" TIMESTAMPTZ
);

CREATE INDEX "AlertMessage_unsent" ON "AlertMessage" ("alertId", "dueAt") WHERE "sentAt" IS NULL;
CREATE INDEX "AlertMessage_alertId" ON "AlertMessage" ("alertId", "id");
