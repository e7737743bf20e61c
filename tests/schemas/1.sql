-- A database of schema version 1, with data: the demo and an open reservation, as that version wrote them.
CREATE TABLE "SchemaVersion" (
    "version" INTEGER PRIMARY KEY,
    "appliedAt" TIMESTAMPTZ NOT NULL
);
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
    "createdAt" TIMESTAMPTZ NOT NULL,
    "disabledAt" TIMESTAMPTZ
);
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
    CHECK ("customerId" IS NOT NULL OR "role" = 'super_admin')
);
CREATE INDEX "User_customerId" ON "User" ("customerId");
CREATE TABLE "Session" (
    "tokenHash" TEXT PRIMARY KEY,
    "userId" TEXT NOT NULL REFERENCES "User" ("id"),
    "createdAt" TIMESTAMPTZ NOT NULL,
    "expiresAt" TIMESTAMPTZ NOT NULL
);
CREATE INDEX "Session_userId" ON "Session" ("userId");
CREATE TABLE "LoginAttempt" (
    "id" INTEGER PRIMARY KEY,
    "account" TEXT NOT NULL,
    "network" TEXT NOT NULL,
    "attemptedAt" BIGINT NOT NULL
);
CREATE INDEX "LoginAttempt_network" ON "LoginAttempt" ("network", "account");
CREATE TABLE "ApiKey" (
    "id" TEXT PRIMARY KEY,
    "customerId" TEXT REFERENCES "Customer" ("id"),
    "name" TEXT NOT NULL CHECK (LENGTH("name") BETWEEN 1 AND 200),
    "secretHash" TEXT NOT NULL,
    "mayOverspend" BOOLEAN NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "revokedAt" TIMESTAMPTZ
);
CREATE TABLE "BudgetDataSourceConfig" (
    "id" TEXT PRIMARY KEY,
    "customerId" TEXT NOT NULL REFERENCES "Customer" ("id"),
    "sourceType" TEXT NOT NULL CHECK ("sourceType" IN ('google_sheets', 'csv')),
    "spreadsheetKey" TEXT,
    "worksheet" TEXT,
    "worksheetGid" BIGINT,
    "csvPath" TEXT,
    "locale" TEXT,
    "columnMap" TEXT NOT NULL DEFAULT '{}',
    "isActive" BOOLEAN NOT NULL,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "removedAt" TIMESTAMPTZ,
    UNIQUE ("id", "customerId"),
    CHECK (("sourceType" = 'google_sheets') = ("spreadsheetKey" IS NOT NULL)),
    CHECK (("sourceType" = 'csv') = ("csvPath" IS NOT NULL))
);
CREATE INDEX "BudgetDataSourceConfig_customerId" ON "BudgetDataSourceConfig" ("customerId");
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
    "createdAt" TIMESTAMPTZ NOT NULL,
    "updatedAt" TIMESTAMPTZ NOT NULL,
    "deletedAt" TIMESTAMPTZ,
    UNIQUE ("id", "customerId", "currencyExponent"),
    FOREIGN KEY ("sourceId", "customerId") REFERENCES "BudgetDataSourceConfig" ("id", "customerId")
);
CREATE UNIQUE INDEX "Budget_live_department_period" ON "Budget" ("customerId", "departmentKey", "periodKey") WHERE "deletedAt" IS NULL;
CREATE UNIQUE INDEX "Budget_externalId" ON "Budget" ("customerId", "externalId") WHERE "externalId" IS NOT NULL;
CREATE INDEX "Budget_sourceId" ON "Budget" ("sourceId");
CREATE TABLE "BudgetUtilization" (
    "budgetId" TEXT PRIMARY KEY,
    "customerId" TEXT NOT NULL,
    "currencyExponent" INTEGER NOT NULL,
    "reservedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("reservedMinor" >= 0),
    "committedMinor" BIGINT NOT NULL DEFAULT 0 CHECK ("committedMinor" >= 0),
    "version" BIGINT NOT NULL DEFAULT 0 CHECK ("version" >= 0),
    "reservedAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "reservedMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "committedAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "committedMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    FOREIGN KEY ("budgetId", "customerId", "currencyExponent") REFERENCES "Budget" ("id", "customerId", "currencyExponent")
);
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
    "status" TEXT NOT NULL CHECK ("status" IN ('open', 'closed')),
    "amount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "amountMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "heldAmount" NUMERIC(20, 4) GENERATED ALWAYS AS (
        "heldMinor" / CASE "currencyExponent" WHEN 0 THEN 1.0 WHEN 1 THEN 10.0 WHEN 2 THEN 100.0 WHEN 3 THEN 1000.0 ELSE 10000.0 END
    ) STORED,
    "createdAt" TIMESTAMPTZ NOT NULL,
    "closedAt" TIMESTAMPTZ,
    "closedAfterCheck" BIGINT,
    "reserveReply" TEXT NOT NULL,
    "closingCall" TEXT,
    "closingReply" TEXT,
    FOREIGN KEY ("budgetId", "customerId", "currencyExponent") REFERENCES "Budget" ("id", "customerId", "currencyExponent"),
    CHECK ("heldMinor" = "amountMinor" + "exceededMinor" - "committedMinor" - "releasedMinor"),
    CHECK (("status" = 'open') = ("heldMinor" > 0)),
    CHECK (("status" = 'closed') = ("closedAt" IS NOT NULL AND "closedAfterCheck" IS NOT NULL AND "closingCall" IS NOT NULL AND "closingReply" IS NOT NULL))
);
CREATE UNIQUE INDEX "Reservation_open" ON "Reservation" ("budgetId", "requestId") WHERE "status" = 'open';
CREATE INDEX "Reservation_request" ON "Reservation" ("customerId", "requestId");
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
CREATE INDEX "BudgetCheckLog_timestamp" ON "BudgetCheckLog" ("timestamp");
CREATE TABLE "AuditLog" (
    "id" INTEGER PRIMARY KEY,
    "customerId" TEXT REFERENCES "Customer" ("id"),
    "budgetId" TEXT REFERENCES "Budget" ("id"),
    "version" BIGINT CHECK ("version" > 0),
    "action" TEXT NOT NULL CHECK ("action" IN (
        'CREATE', 'UPDATE', 'SOFT_DELETE', 'REVIVE', 'RESERVE', 'OVER_BUDGET', 'COMMIT', 'RELEASE',
        'ADD_CUSTOMER', 'DISABLE_CUSTOMER', 'ADD_USER', 'SET_PASSWORD', 'DISABLE_USER', 'ENABLE_USER',
        'ADD_KEY', 'REVOKE_KEY', 'ADD_SOURCE', 'REMOVE_SOURCE', 'PRUNE_CHECKS'
    )),
    "field" TEXT,
    "subject" TEXT,
    "requestId" TEXT,
    "reservationId" TEXT,
    "oldValue" TEXT,
    "newValue" TEXT,
    "budgetedDeltaMinor" BIGINT NOT NULL DEFAULT 0,
    "reservedDeltaMinor" BIGINT NOT NULL DEFAULT 0,
    "committedDeltaMinor" BIGINT NOT NULL DEFAULT 0,
    "principal" TEXT NOT NULL,
    "changedBy" TEXT NOT NULL,
    "onBehalfOf" TEXT,
    "approvedBy" TEXT,
    "reason" TEXT,
    "externalRef" TEXT,
    "createdAt" TIMESTAMPTZ NOT NULL,
    UNIQUE ("budgetId", "version"),
    CHECK (("budgetId" IS NULL) = ("version" IS NULL)),
    CHECK ("budgetId" IS NOT NULL OR ("budgetedDeltaMinor" = 0 AND "reservedDeltaMinor" = 0 AND "committedDeltaMinor" = 0))
);
CREATE INDEX "AuditLog_request" ON "AuditLog" ("customerId", "requestId") WHERE "requestId" IS NOT NULL;
CREATE INDEX "AuditLog_prune" ON "AuditLog" ("customerId", "newValue") WHERE "action" = 'PRUNE_CHECKS';
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
    "heldBudgetIds" TEXT NOT NULL DEFAULT '[]',
    "startedBy" TEXT NOT NULL,
    "durationMs" INTEGER NOT NULL CHECK ("durationMs" >= 0),
    "startTime" TIMESTAMPTZ NOT NULL,
    "endTime" TIMESTAMPTZ NOT NULL,
    FOREIGN KEY ("sourceId", "customerId") REFERENCES "BudgetDataSourceConfig" ("id", "customerId")
);
CREATE INDEX "SyncHistory_customer" ON "SyncHistory" ("customerId", "startTime");
CREATE INDEX "SyncHistory_source" ON "SyncHistory" ("sourceId", "id");
INSERT INTO "SchemaVersion" ("version", "appliedAt") VALUES (1, '2026-11-22T15:58:39Z');
INSERT INTO "Customer" ("id", "name", "currency", "currencyExponent", "autoApproveLimitMinor", "timeZone", "fiscalYearStartMonth", "createdAt", "disabledAt") VALUES ('org-456', 'Acme Inc.', 'USD', 2, 1000000, 'UTC', 1, '2026-11-22T15:58:40Z', NULL);
INSERT INTO "User" ("id", "customerId", "name", "email", "emailKey", "role", "passwordHash", "createdAt", "disabledAt") VALUES ('user-123', 'org-456', 'Jane Doe', 'jane@acme.com', 'jane@acme.com', 'business_user', 'scrypt:32768:8:1$FfhQJom7gOHXcczE$e3b49362aef7cc00a1685d7be99683de4816a333b234adff4930bfe474b43bb3ddc7a7c2df36c0e60312029a0a4b72f36ddfc15cf130b303ca3efb463e6dae15', '2026-11-22T15:58:40Z', NULL);
INSERT INTO "User" ("id", "customerId", "name", "email", "emailKey", "role", "passwordHash", "createdAt", "disabledAt") VALUES ('fpa-001', 'org-456', 'Fiona Adams', 'fiona@acme.com', 'fiona@acme.com', 'fpa_admin', 'scrypt:32768:8:1$EQO1AyaBIoEAIqpO$7e3a06fd7308d1e790fc1676e1305c51e86a10f81becdcc8b73671195b5a77927b78ed52c8952183936cdb1930d4964f53526d4f0d4ca24614c16ba187c42bf8', '2026-11-22T15:58:40Z', NULL);
INSERT INTO "User" ("id", "customerId", "name", "email", "emailKey", "role", "passwordHash", "createdAt", "disabledAt") VALUES ('admin-001', 'org-456', 'Alex Kim', 'alex@acme.com', 'alex@acme.com', 'admin', 'scrypt:32768:8:1$jrHM6oLSeEoYfCX5$82cca1be81b1a635052b80f1a38cb3a115287f42f2fd78d73a7ae4e61d3c9e5c5a85129d11a808a8591b4b59337b35f477b46530c6cec279ee3997afedb7ed3c', '2026-11-22T15:58:40Z', NULL);
INSERT INTO "ApiKey" ("id", "customerId", "name", "secretHash", "mayOverspend", "createdAt", "revokedAt") VALUES ('0112ff2b2e7131a0', 'org-456', 'orchestrator', '58e447ae676362999e5ca0f50fbe9edf310b98442ad69fb471efd1c8dd91d727', 0, '2026-11-22T15:58:40Z', NULL);
INSERT INTO "Budget" ("id", "customerId", "sourceId", "externalId", "sourceRow", "department", "departmentKey", "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor", "autoApproveLimitMinor", "createdAt", "updatedAt", "deletedAt") VALUES ('budget-123', 'org-456', NULL, NULL, NULL, 'Engineering', 'engineering', 'Q1 2025', '2025-Q1', 'USD', 2, 10000000, NULL, '2026-11-22T15:58:40Z', '2026-11-22T15:58:40Z', NULL);
INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "reservedMinor", "committedMinor", "version") VALUES ('budget-123', 'org-456', 2, 9000, 500950, 5);
INSERT INTO "Reservation" ("seq", "id", "customerId", "budgetId", "requestId", "requesterId", "requesterName", "requesterEmail", "currencyExponent", "amountMinor", "heldMinor", "committedMinor", "releasedMinor", "exceededMinor", "status", "createdAt", "closedAt", "closedAfterCheck", "reserveReply", "closingCall", "closingReply") VALUES (1, 'res_f447f62a58b1e9743706ca7f', 'org-456', 'budget-123', 'intake-101', 'user-123', 'Jane Doe', 'jane@acme.com', 2, 500000, 0, 500000, 0, 0, 'closed', '2026-11-22T15:58:40Z', '2026-11-22T15:58:40Z', 1, '{"success": true, "reservationId": "res_f447f62a58b1e9743706ca7f", "budgetId": "budget-123", "requestId": "intake-101", "amountReserved": 5000, "newAvailable": 95000}', 'commit:500000:partial', '{"success": true, "amountCommitted": 5000, "amountReleased": 0, "newAvailable": 95000, "budgetId": "budget-123", "requestId": "intake-101", "reservationId": "res_f447f62a58b1e9743706ca7f", "amountHeld": 0}');
INSERT INTO "Reservation" ("seq", "id", "customerId", "budgetId", "requestId", "requesterId", "requesterName", "requesterEmail", "currencyExponent", "amountMinor", "heldMinor", "committedMinor", "releasedMinor", "exceededMinor", "status", "createdAt", "closedAt", "closedAfterCheck", "reserveReply", "closingCall", "closingReply") VALUES (2, 'res_a2435ea30f2e02eaa584eef8', 'org-456', 'budget-123', 'intake-789', 'user-123', 'Jane Doe', 'jane@acme.com', 2, 9950, 9000, 950, 0, 0, 'open', '2026-11-22T15:58:41Z', NULL, NULL, '{"success": true, "reservationId": "res_a2435ea30f2e02eaa584eef8", "budgetId": "budget-123", "requestId": "intake-789", "amountReserved": 99.5, "newAvailable": 94900.5}', NULL, NULL);
INSERT INTO "StoredReply" ("customerId", "principal", "call", "idempotencyKey", "bodyHash", "reply", "createdAt") VALUES ('org-456', 'command', 'reserve', 'k1', '1e4d2ccc290357d07a5c043a2c8c12fac028d1b4b4336d69690404d0b4853f87', '{"success": true, "reservationId": "res_a2435ea30f2e02eaa584eef8", "budgetId": "budget-123", "requestId": "intake-789", "amountReserved": 99.5, "newAvailable": 94900.5}', '2026-11-22T15:58:41Z');
INSERT INTO "BudgetCheckLog" ("id", "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent", "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp") VALUES (1, 'chk_e52e768ccf0a31db088614a7', 'org-456', 'intake-101', 'user-123', 'Jane Doe', 'jane@acme.com', 'command', 'Engineering', 'Q1 2025', 'USD', 2, 500000, 'JetBrains', 'IDE licences', 'budget-123', 1, 1, 'AUTO_APPROVED', 'Budget available. Within the auto-approve limit', '{"success": true, "available": true, "canAutoApprove": true, "code": "AUTO_APPROVED", "reason": "Budget available. Within the auto-approve limit", "checkId": "chk_e52e768ccf0a31db088614a7", "budget": {"id": "budget-123", "currency": "USD", "budgetedAmount": 100000, "reservedAmount": 0, "committedAmount": 0, "available": 100000}}', 1, '2026-11-22T15:58:40Z');
INSERT INTO "BudgetCheckLog" ("id", "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent", "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp") VALUES (2, 'chk_e00f6bbbb7b7563cd3c49a25', 'org-456', 'intake-789', 'user-123', 'Jane Doe', 'jane@acme.com', 'command', 'Engineering', 'Q1 2025', 'USD', 2, 9950, NULL, NULL, 'budget-123', 1, 1, 'AUTO_APPROVED', 'Budget available. Within the auto-approve limit', '{"success": true, "available": true, "canAutoApprove": true, "code": "AUTO_APPROVED", "reason": "Budget available. Within the auto-approve limit", "checkId": "chk_e00f6bbbb7b7563cd3c49a25", "budget": {"id": "budget-123", "currency": "USD", "budgetedAmount": 100000, "reservedAmount": 0, "committedAmount": 5000, "available": 95000}}', 5, '2026-11-22T15:58:41Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (1, 'org-456', NULL, NULL, 'ADD_CUSTOMER', NULL, 'org-456', NULL, NULL, NULL, 'Acme Inc.', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T15:58:40Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (2, 'org-456', NULL, NULL, 'ADD_USER', NULL, 'user-123', NULL, NULL, NULL, 'business_user', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T15:58:40Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (3, 'org-456', NULL, NULL, 'ADD_USER', NULL, 'fpa-001', NULL, NULL, NULL, 'fpa_admin', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T15:58:40Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (4, 'org-456', NULL, NULL, 'ADD_USER', NULL, 'admin-001', NULL, NULL, NULL, 'admin', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T15:58:40Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (5, 'org-456', NULL, NULL, 'ADD_KEY', NULL, '0112ff2b2e7131a0', NULL, NULL, NULL, 'orchestrator', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T15:58:40Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (6, 'org-456', 'budget-123', 1, 'CREATE', 'budgetedAmount', NULL, NULL, NULL, NULL, '100000', 10000000, 0, 0, 'command', 'root (command line)', NULL, NULL, 'Engineering, Q1 2025: $100,000', NULL, '2026-11-22T15:58:40Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (7, 'org-456', 'budget-123', 2, 'RESERVE', NULL, 'user-123', 'intake-101', 'res_f447f62a58b1e9743706ca7f', '0', '5000', 0, 500000, 0, 'command', 'root (command line)', 'Jane Doe (jane@acme.com)', NULL, 'JetBrains - IDE licences', NULL, '2026-11-22T15:58:40Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (8, 'org-456', 'budget-123', 3, 'COMMIT', NULL, 'user-123', 'intake-101', 'res_f447f62a58b1e9743706ca7f', '5000', '0', 0, -500000, 500000, 'command', 'root (command line)', 'Jane Doe (jane@acme.com)', NULL, 'Request fulfilled', 'PO-1001', '2026-11-22T15:58:40Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (9, 'org-456', 'budget-123', 4, 'RESERVE', NULL, 'user-123', 'intake-789', 'res_a2435ea30f2e02eaa584eef8', '0', '99.5', 0, 9950, 0, 'command', 'root (command line)', 'Jane Doe (jane@acme.com)', NULL, 'Budget reserved for request', NULL, '2026-11-22T15:58:41Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (10, 'org-456', 'budget-123', 5, 'COMMIT', NULL, 'user-123', 'intake-789', 'res_a2435ea30f2e02eaa584eef8', '99.5', '90', 0, -950, 950, 'command', 'root (command line)', 'Jane Doe (jane@acme.com)', NULL, 'Request fulfilled', NULL, '2026-11-22T15:58:41Z');
CREATE TRIGGER "AuditLog_no_update" BEFORE UPDATE ON "AuditLog"
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER "AuditLog_no_delete" BEFORE DELETE ON "AuditLog"
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER "AuditLog_no_replace" BEFORE INSERT ON "AuditLog"
    WHEN EXISTS (SELECT 1 FROM "AuditLog" WHERE "id" = NEW."id" OR ("budgetId" = NEW."budgetId" AND "version" = NEW."version"))
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER "BudgetCheckLog_no_update" BEFORE UPDATE ON "BudgetCheckLog"
    BEGIN SELECT RAISE(ABORT, 'the check log is append-only'); END;
CREATE TRIGGER "BudgetCheckLog_no_replace" BEFORE INSERT ON "BudgetCheckLog"
    WHEN EXISTS (SELECT 1 FROM "BudgetCheckLog" WHERE "id" = NEW."id")
    BEGIN SELECT RAISE(ABORT, 'the check log is append-only'); END;
CREATE TRIGGER "BudgetCheckLog_no_delete" BEFORE DELETE ON "BudgetCheckLog"
    WHEN NOT EXISTS (
        SELECT 1 FROM "AuditLog"
        WHERE "action" = 'PRUNE_CHECKS' AND "customerId" = OLD."customerId" AND "newValue" > OLD."timestamp"
    )
    BEGIN SELECT RAISE(ABORT, 'check log rows leave only by flask prune-checks, which audits it'); END;
