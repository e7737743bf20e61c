-- A database of schema version 4, with data: that of version 3, as that version upgraded it.
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
    "lastLoginAt" TIMESTAMPTZ,
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
    "revokedAt" TIMESTAMPTZ,
    "lastUsedAt" TIMESTAMPTZ
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
CREATE INDEX "Reservation_open_age" ON "Reservation" ("customerId", "createdAt") WHERE "status" = 'open';
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
CREATE TABLE "AuditAction" (
    "action" TEXT PRIMARY KEY CHECK (LENGTH("action") BETWEEN 1 AND 50)
);
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
CREATE INDEX "AuditLog_customer" ON "AuditLog" ("customerId", "id");
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
CREATE INDEX "SyncHistory_source" ON "SyncHistory" ("sourceId", "id");;
INSERT INTO "SchemaVersion" ("version", "appliedAt") VALUES (3, '2026-11-30T20:59:00Z');
INSERT INTO "SchemaVersion" ("version", "appliedAt") VALUES (4, '2026-12-01T01:10:41Z');
INSERT INTO "Customer" ("id", "name", "currency", "currencyExponent", "autoApproveLimitMinor", "timeZone", "fiscalYearStartMonth", "createdAt", "disabledAt") VALUES ('org-456', 'Acme Inc.', 'USD', 2, 1000000, 'UTC', 1, '2026-11-22T22:10:20Z', NULL);
INSERT INTO "User" ("id", "customerId", "name", "email", "emailKey", "role", "passwordHash", "createdAt", "disabledAt", "lastLoginAt") VALUES ('admin-001', 'org-456', 'Alex Kim', 'alex@acme.com', 'alex@acme.com', 'admin', 'scrypt:32768:8:1$amNrGvCw2gHwftU3$3ba27402fefe3d2e7f3f40e6b6b0f7671a707a197c7cd418213aac78e9dc875afd09162d4fecf6e9c0bd57939929e03d8da43e6c0ab7f77b5d4968e0f8f1aa86', '2026-11-22T22:10:21Z', NULL, NULL);
INSERT INTO "User" ("id", "customerId", "name", "email", "emailKey", "role", "passwordHash", "createdAt", "disabledAt", "lastLoginAt") VALUES ('fpa-001', 'org-456', 'Fiona Adams', 'fiona@acme.com', 'fiona@acme.com', 'fpa_admin', 'scrypt:32768:8:1$IIwqZSA7nFOqf7bm$ffe87162fcdb6cd5459a8b6c02d99c9433cd989f331f9f2b899adf009179a978f1de952b7f56d59857bffd48d6dad50c2d3704f50fbe6ed3de5fdc10549a722d', '2026-11-22T22:10:21Z', NULL, NULL);
INSERT INTO "User" ("id", "customerId", "name", "email", "emailKey", "role", "passwordHash", "createdAt", "disabledAt", "lastLoginAt") VALUES ('user-123', 'org-456', 'Jane Doe', 'jane@acme.com', 'jane@acme.com', 'business_user', 'scrypt:32768:8:1$sRiRp4JaI6tbYzNH$f903425b253092e390668cb02dbd9ae8b39158f73003e6f826fd214fff99f5d28394d5e20d31dfe31c37bc032a24b0a9e196dbf323f581a83ca6f561e269cb14', '2026-11-22T22:10:20Z', NULL, NULL);
INSERT INTO "ApiKey" ("id", "customerId", "name", "secretHash", "mayOverspend", "createdAt", "revokedAt", "lastUsedAt") VALUES ('243f1b694c0ce76c', 'org-456', 'orchestrator', 'db2446779b780c2e0e2f63e3b41f89657e43c59748fb5063ac24f2c88363fe57', 0, '2026-11-22T22:10:21Z', NULL, NULL);
INSERT INTO "ApiKey" ("id", "customerId", "name", "secretHash", "mayOverspend", "createdAt", "revokedAt", "lastUsedAt") VALUES ('8fe7e4d1f03d0c0a', 'org-456', 'erp', 'c838f0938e0a996553a79a3b45090598416f93eb71280d5cac5680155d113c6f', 0, '2026-11-30T21:00:00Z', NULL, NULL);
INSERT INTO "ApiKey" ("id", "customerId", "name", "secretHash", "mayOverspend", "createdAt", "revokedAt", "lastUsedAt") VALUES ('7520754277c30c66', 'org-456', 'erp', '627ae8f6d2b2f581d9fc9af307a9e097dc48bc8292375fefc574199793004197', 0, '2026-11-30T21:00:00Z', NULL, NULL);
INSERT INTO "ApiKey" ("id", "customerId", "name", "secretHash", "mayOverspend", "createdAt", "revokedAt", "lastUsedAt") VALUES ('197ef51e42ea782d', NULL, 'erp', '4f588a85dfb792db407d0ae0420a95324bd7bd2004b039c1dc0173ea8edbe1c3', 0, '2026-11-30T21:00:00Z', NULL, NULL);
INSERT INTO "ApiKey" ("id", "customerId", "name", "secretHash", "mayOverspend", "createdAt", "revokedAt", "lastUsedAt") VALUES ('dced45475d7e390f', 'org-456', 'billing', '0a0c775f257e6a60283882de3ee16ba58f2e247b4da7b6ed77a40b42874cf816', 0, '2026-11-30T21:00:00Z', NULL, NULL);
INSERT INTO "BudgetDataSourceConfig" ("id", "customerId", "sourceType", "spreadsheetKey", "worksheet", "worksheetGid", "csvPath", "locale", "columnMap", "isActive", "createdAt", "removedAt") VALUES ('src_51f72bd66fa0', 'org-456', 'csv', NULL, NULL, NULL, 'demo.csv', NULL, '{}', 1, '2026-11-22T22:10:21Z', NULL);
INSERT INTO "BudgetDataSourceConfig" ("id", "customerId", "sourceType", "spreadsheetKey", "worksheet", "worksheetGid", "csvPath", "locale", "columnMap", "isActive", "createdAt", "removedAt") VALUES ('src_b6fffed49de2', 'org-456', 'csv', NULL, NULL, NULL, 'b.csv', NULL, '{}', 1, '2026-11-22T22:10:25Z', NULL);
INSERT INTO "Budget" ("id", "customerId", "sourceId", "externalId", "sourceRow", "department", "departmentKey", "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor", "autoApproveLimitMinor", "createdAt", "updatedAt", "deletedAt") VALUES ('MKT-25Q1', 'org-456', 'src_51f72bd66fa0', 'MKT-25Q1', 2, 'Marketing', 'marketing', 'Q1 2025', '2025-Q1', 'USD', 2, 4000000, NULL, '2026-11-22T22:10:21Z', '2026-11-22T22:10:21Z', NULL);
INSERT INTO "Budget" ("id", "customerId", "sourceId", "externalId", "sourceRow", "department", "departmentKey", "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor", "autoApproveLimitMinor", "createdAt", "updatedAt", "deletedAt") VALUES ('OPS-25Q1', 'org-456', 'src_51f72bd66fa0', 'OPS-25Q1', 4, 'Operations', 'operations', 'Q1 2025', '2025-Q1', 'USD', 2, 3000000, NULL, '2026-11-22T22:10:21Z', '2026-11-22T22:10:21Z', NULL);
INSERT INTO "Budget" ("id", "customerId", "sourceId", "externalId", "sourceRow", "department", "departmentKey", "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor", "autoApproveLimitMinor", "createdAt", "updatedAt", "deletedAt") VALUES ('SAL-25Q1', 'org-456', 'src_51f72bd66fa0', 'SAL-25Q1', 3, 'Sales', 'sales', 'Q1 2025', '2025-Q1', 'USD', 2, 5500000, NULL, '2026-11-22T22:10:21Z', '2026-11-22T22:10:21Z', NULL);
INSERT INTO "Budget" ("id", "customerId", "sourceId", "externalId", "sourceRow", "department", "departmentKey", "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor", "autoApproveLimitMinor", "createdAt", "updatedAt", "deletedAt") VALUES ('bud_81777e7ae10a3a59', 'org-456', 'src_b6fffed49de2', NULL, 2, 'Legal', 'legal', 'Q1 2025', '2025-Q1', 'USD', 2, 2500050, NULL, '2026-11-22T22:10:27Z', '2026-11-22T22:10:29Z', NULL);
INSERT INTO "Budget" ("id", "customerId", "sourceId", "externalId", "sourceRow", "department", "departmentKey", "fiscalPeriod", "periodKey", "currency", "currencyExponent", "budgetedMinor", "autoApproveLimitMinor", "createdAt", "updatedAt", "deletedAt") VALUES ('budget-123', 'org-456', NULL, NULL, NULL, 'Engineering', 'engineering', 'Q1 2025', '2025-Q1', 'USD', 2, 10000000, NULL, '2026-11-22T22:10:21Z', '2026-11-22T22:10:21Z', NULL);
INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "reservedMinor", "committedMinor", "version") VALUES ('MKT-25Q1', 'org-456', 2, 0, 0, 1);
INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "reservedMinor", "committedMinor", "version") VALUES ('OPS-25Q1', 'org-456', 2, 0, 0, 1);
INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "reservedMinor", "committedMinor", "version") VALUES ('SAL-25Q1', 'org-456', 2, 0, 0, 1);
INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "reservedMinor", "committedMinor", "version") VALUES ('bud_81777e7ae10a3a59', 'org-456', 2, 0, 0, 2);
INSERT INTO "BudgetUtilization" ("budgetId", "customerId", "currencyExponent", "reservedMinor", "committedMinor", "version") VALUES ('budget-123', 'org-456', 2, 73000, 530950, 11);
INSERT INTO "Reservation" ("seq", "id", "customerId", "budgetId", "requestId", "requesterId", "requesterName", "requesterEmail", "currencyExponent", "amountMinor", "heldMinor", "committedMinor", "releasedMinor", "exceededMinor", "status", "createdAt", "closedAt", "closedAfterCheck", "reserveReply", "closingCall", "closingReply") VALUES (1, 'res_01a2054f6edd7a49680c8b22', 'org-456', 'budget-123', 'intake-101', 'user-123', 'Jane Doe', 'jane@acme.com', 2, 500000, 0, 500000, 0, 0, 'closed', '2026-11-22T22:10:21Z', '2026-11-22T22:10:21Z', 1, '{"success": true, "reservationId": "res_01a2054f6edd7a49680c8b22", "budgetId": "budget-123", "requestId": "intake-101", "amountReserved": 5000, "newAvailable": 95000}', 'commit:500000:partial', '{"success": true, "amountCommitted": 5000, "amountReleased": 0, "newAvailable": 95000, "budgetId": "budget-123", "requestId": "intake-101", "reservationId": "res_01a2054f6edd7a49680c8b22", "amountHeld": 0}');
INSERT INTO "Reservation" ("seq", "id", "customerId", "budgetId", "requestId", "requesterId", "requesterName", "requesterEmail", "currencyExponent", "amountMinor", "heldMinor", "committedMinor", "releasedMinor", "exceededMinor", "status", "createdAt", "closedAt", "closedAfterCheck", "reserveReply", "closingCall", "closingReply") VALUES (2, 'res_01a2054fa0c01fb20f8c3687', 'org-456', 'budget-123', 'intake-789', 'user-123', 'Jane Doe', 'jane@acme.com', 2, 9950, 8000, 950, 1000, 0, 'open', '2026-11-22T22:10:34Z', NULL, NULL, '{"success": true, "reservationId": "res_01a2054fa0c01fb20f8c3687", "budgetId": "budget-123", "requestId": "intake-789", "amountReserved": 99.5, "newAvailable": 94900.5}', NULL, NULL);
INSERT INTO "Reservation" ("seq", "id", "customerId", "budgetId", "requestId", "requesterId", "requesterName", "requesterEmail", "currencyExponent", "amountMinor", "heldMinor", "committedMinor", "releasedMinor", "exceededMinor", "status", "createdAt", "closedAt", "closedAfterCheck", "reserveReply", "closingCall", "closingReply") VALUES (3, 'res_01a22e41e49382370dd92881', 'org-456', 'budget-123', 'intake-3', 'user-123', 'Jane Doe', 'jane@acme.com', 2, 90000, 60000, 30000, 0, 0, 'open', '2026-11-30T21:00:00Z', NULL, NULL, '{"success": true, "reservationId": "res_01a22e41e49382370dd92881", "budgetId": "budget-123", "requestId": "intake-3", "amountReserved": 900, "newAvailable": 94010.5}', NULL, NULL);
INSERT INTO "Reservation" ("seq", "id", "customerId", "budgetId", "requestId", "requesterId", "requesterName", "requesterEmail", "currencyExponent", "amountMinor", "heldMinor", "committedMinor", "releasedMinor", "exceededMinor", "status", "createdAt", "closedAt", "closedAfterCheck", "reserveReply", "closingCall", "closingReply") VALUES (4, 'res_01a22e41e4944fd9a5201628', 'org-456', 'budget-123', 'intake-4', 'user-123', 'Jane Doe', 'jane@acme.com', 2, 5000, 5000, 0, 0, 0, 'open', '2026-11-30T21:00:00Z', NULL, NULL, '{"success": true, "reservationId": "res_01a22e41e4944fd9a5201628", "budgetId": "budget-123", "requestId": "intake-4", "amountReserved": 50, "newAvailable": 93960.5}', NULL, NULL);
INSERT INTO "StoredReply" ("customerId", "principal", "call", "idempotencyKey", "bodyHash", "reply", "createdAt") VALUES ('org-456', 'key:x', 'reserve', 'key-1', '4342481db5ced5af35199488872a0f40d49f3c51eb5789c6a56ab3a60b50c65a', '{"success": true, "reservationId": "res_01a2054fa0c01fb20f8c3687", "budgetId": "budget-123", "requestId": "intake-789", "amountReserved": 99.5, "newAvailable": 94900.5}', '2026-11-22T22:10:34Z');
INSERT INTO "StoredReply" ("customerId", "principal", "call", "idempotencyKey", "bodyHash", "reply", "createdAt") VALUES ('org-456', 'service:erp', 'reserve', 'reserve-3', 'd6e7cbad99d6212d5a0266c4752440080383972b8b6c381b28e3e84c5ca6b0bb', '{"success": true, "reservationId": "res_01a22e41e49382370dd92881", "budgetId": "budget-123", "requestId": "intake-3", "amountReserved": 900, "newAvailable": 94010.5}', '2026-11-30T21:00:00Z');
INSERT INTO "StoredReply" ("customerId", "principal", "call", "idempotencyKey", "bodyHash", "reply", "createdAt") VALUES ('org-456', 'service:billing', 'reserve', 'month-end', '7a96388249231604f399c7e3d3bf94e084aca28ea0d6afa92277f00561651ec0', '{"success": true, "reservationId": "res_01a22e41e4944fd9a5201628", "budgetId": "budget-123", "requestId": "intake-4", "amountReserved": 50, "newAvailable": 93960.5}', '2026-11-30T21:00:00Z');
INSERT INTO "StoredReply" ("customerId", "principal", "call", "idempotencyKey", "bodyHash", "reply", "createdAt") VALUES ('org-456', 'service:erp', 'commit', 'month-end', 'ec392bd65ef16c2e500db60b8d3662db14eb9902469cf4f9c73efdcfb934f988', '{"success": true, "amountCommitted": 100, "amountReleased": 0, "newAvailable": 93960.5, "budgetId": "budget-123", "requestId": "intake-3", "reservationId": "res_01a22e41e49382370dd92881", "amountHeld": 600}', '2026-11-30T21:03:00Z');
INSERT INTO "BudgetCheckLog" ("id", "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent", "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp") VALUES (1, 'chk_01a2054f6ecb8aee9170f1ff', 'org-456', 'intake-101', 'user-123', 'Jane Doe', 'jane@acme.com', 'command', 'Engineering', 'Q1 2025', 'USD', 2, 500000, 'JetBrains', 'IDE licences', 'budget-123', 1, 1, 'AUTO_APPROVED', 'Budget available. Within the auto-approve limit', '{"success": true, "available": true, "canAutoApprove": true, "code": "AUTO_APPROVED", "reason": "Budget available. Within the auto-approve limit", "checkId": "chk_01a2054f6ecb8aee9170f1ff", "budget": {"id": "budget-123", "currency": "USD", "budgetedAmount": 100000, "reservedAmount": 0, "committedAmount": 0, "available": 100000}}', 6, '2026-11-22T22:10:21Z');
INSERT INTO "BudgetCheckLog" ("id", "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent", "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp") VALUES (2, 'chk_01a2054fa0911579124592c5', 'org-456', 'intake-789', 'user-123', 'Jane Doe', 'jane@acme.com', 'key:x', 'Engineering', 'Q1 2025', 'USD', 2, 9950, NULL, NULL, 'budget-123', 1, 1, 'AUTO_APPROVED', 'Budget available. Within the auto-approve limit', '{"success": true, "available": true, "canAutoApprove": true, "code": "AUTO_APPROVED", "reason": "Budget available. Within the auto-approve limit", "checkId": "chk_01a2054fa0911579124592c5", "budget": {"id": "budget-123", "currency": "USD", "budgetedAmount": 100000, "reservedAmount": 0, "committedAmount": 5000, "available": 95000}}', 16, '2026-11-22T22:10:34Z');
INSERT INTO "BudgetCheckLog" ("id", "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent", "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp") VALUES (3, 'chk_01a22e41e488bfc35656efbb', 'org-456', 'intake-3', 'user-123', 'Jane Doe', 'jane@acme.com', 'service:erp', 'Engineering', 'Q1 2025', 'USD', 2, 90000, NULL, NULL, 'budget-123', 1, 1, 'AUTO_APPROVED', 'Budget available. Within the auto-approve limit', '{"success": true, "available": true, "canAutoApprove": true, "code": "AUTO_APPROVED", "reason": "Budget available. Within the auto-approve limit", "checkId": "chk_01a22e41e488bfc35656efbb", "budget": {"id": "budget-123", "currency": "USD", "budgetedAmount": 100000, "reservedAmount": 80, "committedAmount": 5009.5, "available": 94910.5}}', 1, '2026-11-30T21:00:00Z');
INSERT INTO "BudgetCheckLog" ("id", "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent", "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp") VALUES (4, 'chk_01a22e41e48bd5dc33e68c71', 'org-456', 'intake-3', 'user-123', 'Jane Doe', 'jane@acme.com', 'service:erp', 'Engineering', 'Q1 2025', 'USD', 2, 90000, NULL, NULL, 'budget-123', 1, 1, 'AUTO_APPROVED', 'Budget available. Within the auto-approve limit', '{"success": true, "available": true, "canAutoApprove": true, "code": "AUTO_APPROVED", "reason": "Budget available. Within the auto-approve limit", "checkId": "chk_01a22e41e48bd5dc33e68c71", "budget": {"id": "budget-123", "currency": "USD", "budgetedAmount": 100000, "reservedAmount": 80, "committedAmount": 5009.5, "available": 94910.5}}', 0, '2026-11-30T21:00:00Z');
INSERT INTO "BudgetCheckLog" ("id", "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent", "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp") VALUES (5, 'chk_01a22e41e48cef9828c1e637', 'org-456', 'intake-3', 'user-123', 'Jane Doe', 'jane@acme.com', 'service:erp', 'Engineering', 'Q1 2025', 'USD', 2, 90000, NULL, NULL, 'budget-123', 1, 1, 'AUTO_APPROVED', 'Budget available. Within the auto-approve limit', '{"success": true, "available": true, "canAutoApprove": true, "code": "AUTO_APPROVED", "reason": "Budget available. Within the auto-approve limit", "checkId": "chk_01a22e41e48cef9828c1e637", "budget": {"id": "budget-123", "currency": "USD", "budgetedAmount": 100000, "reservedAmount": 80, "committedAmount": 5009.5, "available": 94910.5}}', 0, '2026-11-30T21:00:00Z');
INSERT INTO "BudgetCheckLog" ("id", "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent", "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp") VALUES (6, 'chk_01a22e41e48c46978e1fb153', 'org-456', 'intake-3', 'user-123', 'Jane Doe', 'jane@acme.com', 'service:billing', 'Engineering', 'Q1 2025', 'USD', 2, 90000, NULL, NULL, 'budget-123', 1, 1, 'AUTO_APPROVED', 'Budget available. Within the auto-approve limit', '{"success": true, "available": true, "canAutoApprove": true, "code": "AUTO_APPROVED", "reason": "Budget available. Within the auto-approve limit", "checkId": "chk_01a22e41e48c46978e1fb153", "budget": {"id": "budget-123", "currency": "USD", "budgetedAmount": 100000, "reservedAmount": 80, "committedAmount": 5009.5, "available": 94910.5}}', 0, '2026-11-30T21:00:00Z');
INSERT INTO "BudgetCheckLog" ("id", "checkId", "customerId", "requestId", "userId", "userName", "userEmail", "checkedBy", "department", "fiscalPeriod", "currency", "currencyExponent", "amountMinor", "vendor", "purpose", "budgetId", "available", "canAutoApprove", "code", "reason", "response", "durationMs", "timestamp") VALUES (7, 'chk_01a22e41e48f02344bdad897', 'org-456', 'intake-4', 'user-123', 'Jane Doe', 'jane@acme.com', 'service:billing', 'Engineering', 'Q1 2025', 'USD', 2, 5000, NULL, NULL, 'budget-123', 1, 1, 'AUTO_APPROVED', 'Budget available. Within the auto-approve limit', '{"success": true, "available": true, "canAutoApprove": true, "code": "AUTO_APPROVED", "reason": "Budget available. Within the auto-approve limit", "checkId": "chk_01a22e41e48f02344bdad897", "budget": {"id": "budget-123", "currency": "USD", "budgetedAmount": 100000, "reservedAmount": 80, "committedAmount": 5009.5, "available": 94910.5}}', 0, '2026-11-30T21:00:00Z');
INSERT INTO "AuditAction" ("action") VALUES ('CREATE');
INSERT INTO "AuditAction" ("action") VALUES ('UPDATE');
INSERT INTO "AuditAction" ("action") VALUES ('SOFT_DELETE');
INSERT INTO "AuditAction" ("action") VALUES ('REVIVE');
INSERT INTO "AuditAction" ("action") VALUES ('RESERVE');
INSERT INTO "AuditAction" ("action") VALUES ('OVER_BUDGET');
INSERT INTO "AuditAction" ("action") VALUES ('COMMIT');
INSERT INTO "AuditAction" ("action") VALUES ('RELEASE');
INSERT INTO "AuditAction" ("action") VALUES ('ADD_CUSTOMER');
INSERT INTO "AuditAction" ("action") VALUES ('SET_CUSTOMER');
INSERT INTO "AuditAction" ("action") VALUES ('DISABLE_CUSTOMER');
INSERT INTO "AuditAction" ("action") VALUES ('ENABLE_CUSTOMER');
INSERT INTO "AuditAction" ("action") VALUES ('ADD_USER');
INSERT INTO "AuditAction" ("action") VALUES ('SET_USER');
INSERT INTO "AuditAction" ("action") VALUES ('SET_PASSWORD');
INSERT INTO "AuditAction" ("action") VALUES ('DISABLE_USER');
INSERT INTO "AuditAction" ("action") VALUES ('ENABLE_USER');
INSERT INTO "AuditAction" ("action") VALUES ('ADD_KEY');
INSERT INTO "AuditAction" ("action") VALUES ('ROTATE_KEY');
INSERT INTO "AuditAction" ("action") VALUES ('REVOKE_KEY');
INSERT INTO "AuditAction" ("action") VALUES ('ADD_SOURCE');
INSERT INTO "AuditAction" ("action") VALUES ('REMOVE_SOURCE');
INSERT INTO "AuditAction" ("action") VALUES ('PRUNE_CHECKS');
INSERT INTO "AuditAction" ("action") VALUES ('PRUNE_HISTORY');
INSERT INTO "AuditAction" ("action") VALUES ('RESTORE');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (1, 'org-456', NULL, NULL, 'ADD_CUSTOMER', NULL, 'org-456', NULL, NULL, NULL, 'Acme Inc.', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T22:10:20Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (2, 'org-456', NULL, NULL, 'ADD_USER', NULL, 'user-123', NULL, NULL, NULL, 'business_user', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T22:10:20Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (3, 'org-456', NULL, NULL, 'ADD_USER', NULL, 'fpa-001', NULL, NULL, NULL, 'fpa_admin', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T22:10:21Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (4, 'org-456', NULL, NULL, 'ADD_USER', NULL, 'admin-001', NULL, NULL, NULL, 'admin', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T22:10:21Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (5, 'org-456', NULL, NULL, 'ADD_KEY', NULL, '243f1b694c0ce76c', NULL, NULL, NULL, 'orchestrator', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T22:10:21Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (6, 'org-456', 'budget-123', 1, 'CREATE', 'budgetedAmount', NULL, NULL, NULL, NULL, '100000', 10000000, 0, 0, 'command', 'root (command line)', NULL, NULL, 'Engineering, Q1 2025: $100,000', NULL, '2026-11-22T22:10:21Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (7, 'org-456', 'budget-123', 2, 'RESERVE', NULL, 'user-123', 'intake-101', 'res_01a2054f6edd7a49680c8b22', '0', '5000', 0, 500000, 0, 'command', 'root (command line)', 'Jane Doe (jane@acme.com)', NULL, 'JetBrains - IDE licences', NULL, '2026-11-22T22:10:21Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (8, 'org-456', 'budget-123', 3, 'COMMIT', NULL, 'user-123', 'intake-101', 'res_01a2054f6edd7a49680c8b22', '5000', '0', 0, -500000, 500000, 'command', 'root (command line)', 'Jane Doe (jane@acme.com)', NULL, 'Request fulfilled', 'PO-1001', '2026-11-22T22:10:21Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (9, 'org-456', NULL, NULL, 'ADD_SOURCE', NULL, 'src_51f72bd66fa0', NULL, NULL, NULL, 'a CSV file', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T22:10:21Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (10, 'org-456', 'MKT-25Q1', 1, 'CREATE', 'budgetedAmount', NULL, NULL, NULL, NULL, '40000', 4000000, 0, 0, 'command', 'root (command line)', NULL, NULL, 'Row 2 of the CSV file: Marketing, Q1 2025', NULL, '2026-11-22T22:10:21Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (11, 'org-456', 'SAL-25Q1', 1, 'CREATE', 'budgetedAmount', NULL, NULL, NULL, NULL, '55000', 5500000, 0, 0, 'command', 'root (command line)', NULL, NULL, 'Row 3 of the CSV file: Sales, Q1 2025', NULL, '2026-11-22T22:10:21Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (12, 'org-456', 'OPS-25Q1', 1, 'CREATE', 'budgetedAmount', NULL, NULL, NULL, NULL, '30000', 3000000, 0, 0, 'command', 'root (command line)', NULL, NULL, 'Row 4 of the CSV file: Operations, Q1 2025', NULL, '2026-11-22T22:10:21Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (13, 'org-456', NULL, NULL, 'ADD_SOURCE', NULL, 'src_b6fffed49de2', NULL, NULL, NULL, 'a CSV file', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-22T22:10:25Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (14, 'org-456', 'bud_81777e7ae10a3a59', 1, 'CREATE', 'budgetedAmount', NULL, NULL, NULL, NULL, '20000', 2000000, 0, 0, 'command', 'root (command line)', NULL, NULL, 'Row 2 of the CSV file: Legal, Q1 2025', NULL, '2026-11-22T22:10:27Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (15, 'org-456', 'bud_81777e7ae10a3a59', 2, 'UPDATE', 'budgetedAmount', NULL, NULL, NULL, '20000', '25000.5', 500050, 0, 0, 'command', 'root (command line)', NULL, NULL, 'Row 2 of the CSV file', NULL, '2026-11-22T22:10:29Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (23, 'org-456', 'budget-123', 4, 'RESERVE', NULL, 'user-123', 'intake-789', 'res_01a2054fa0c01fb20f8c3687', '0', '99.5', 0, 9950, 0, 'key:x', 'orchestrator (service)', 'Jane Doe (jane@acme.com)', NULL, 'Budget reserved for request', NULL, '2026-11-22T22:10:34Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (24, 'org-456', 'budget-123', 5, 'COMMIT', NULL, 'user-123', 'intake-789', 'res_01a2054fa0c01fb20f8c3687', '99.5', '90', 0, -950, 950, 'key:x', 'orchestrator (service)', 'Jane Doe (jane@acme.com)', NULL, 'Request fulfilled', NULL, '2026-11-22T22:10:34Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (25, 'org-456', 'budget-123', 6, 'RELEASE', NULL, 'user-123', 'intake-789', 'res_01a2054fa0c01fb20f8c3687', '90', '80', 0, -1000, 0, 'key:x', 'orchestrator (service)', 'Jane Doe (jane@acme.com)', NULL, 'Request rejected', NULL, '2026-11-22T22:10:34Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (26, 'org-456', NULL, NULL, 'ADD_KEY', NULL, '8fe7e4d1f03d0c0a', NULL, NULL, NULL, 'erp', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-30T21:00:00Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (27, 'org-456', NULL, NULL, 'ADD_KEY', NULL, '7520754277c30c66', NULL, NULL, NULL, 'erp', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-30T21:00:00Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (28, NULL, NULL, NULL, 'ADD_KEY', NULL, '197ef51e42ea782d', NULL, NULL, NULL, 'erp', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-30T21:00:00Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (29, 'org-456', NULL, NULL, 'ADD_KEY', NULL, 'dced45475d7e390f', NULL, NULL, NULL, 'billing', 0, 0, 0, 'command', 'root (command line)', NULL, NULL, NULL, NULL, '2026-11-30T21:00:00Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (30, 'org-456', 'budget-123', 7, 'RESERVE', NULL, 'user-123', 'intake-3', 'res_01a22e41e49382370dd92881', '0', '900', 0, 90000, 0, 'key:8fe7e4d1f03d0c0a', 'erp (service)', 'Jane Doe (jane@acme.com)', NULL, 'Budget reserved for request', NULL, '2026-11-30T21:00:00Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (31, 'org-456', 'budget-123', 8, 'RESERVE', NULL, 'user-123', 'intake-4', 'res_01a22e41e4944fd9a5201628', '0', '50', 0, 5000, 0, 'key:dced45475d7e390f', 'billing (service)', 'Jane Doe (jane@acme.com)', NULL, 'Budget reserved for request', NULL, '2026-11-30T21:00:00Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (32, 'org-456', 'budget-123', 9, 'COMMIT', NULL, 'user-123', 'intake-3', 'res_01a22e41e49382370dd92881', '900', '800', 0, -10000, 10000, 'key:8fe7e4d1f03d0c0a', 'erp (service)', 'Jane Doe (jane@acme.com)', NULL, 'Request fulfilled', NULL, '2026-11-30T21:01:00Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (33, 'org-456', 'budget-123', 10, 'COMMIT', NULL, 'user-123', 'intake-3', 'res_01a22e41e49382370dd92881', '800', '700', 0, -10000, 10000, 'key:197ef51e42ea782d', 'erp (service)', 'Jane Doe (jane@acme.com)', NULL, 'Request fulfilled', NULL, '2026-11-30T21:02:00Z');
INSERT INTO "AuditLog" ("id", "customerId", "budgetId", "version", "action", "field", "subject", "requestId", "reservationId", "oldValue", "newValue", "budgetedDeltaMinor", "reservedDeltaMinor", "committedDeltaMinor", "principal", "changedBy", "onBehalfOf", "approvedBy", "reason", "externalRef", "createdAt") VALUES (34, 'org-456', 'budget-123', 11, 'COMMIT', NULL, 'user-123', 'intake-3', 'res_01a22e41e49382370dd92881', '700', '600', 0, -10000, 10000, 'key:7520754277c30c66', 'erp (service)', 'Jane Doe (jane@acme.com)', NULL, 'Request fulfilled', NULL, '2026-11-30T21:03:00Z');
INSERT INTO "SyncHistory" ("id", "syncId", "customerId", "sourceId", "status", "createdCount", "updatedCount", "unchangedCount", "softDeletedCount", "revivedCount", "heldCount", "errorCount", "overdrawnCount", "message", "errors", "heldBudgetIds", "startedBy", "durationMs", "startTime", "endTime") VALUES (1, 'sync_1795385421_org-456', 'org-456', 'src_51f72bd66fa0', 'success', 3, 0, 0, 0, 0, 0, 0, 0, NULL, '[]', '[]', 'root (command line)', 22, '2026-11-22T22:10:21Z', '2026-11-22T22:10:21Z');
INSERT INTO "SyncHistory" ("id", "syncId", "customerId", "sourceId", "status", "createdCount", "updatedCount", "unchangedCount", "softDeletedCount", "revivedCount", "heldCount", "errorCount", "overdrawnCount", "message", "errors", "heldBudgetIds", "startedBy", "durationMs", "startTime", "endTime") VALUES (2, 'sync_1795385427_org-456', 'org-456', 'src_51f72bd66fa0', 'success', 0, 0, 3, 0, 0, 0, 0, 0, NULL, '[]', '[]', 'root (command line)', 39, '2026-11-22T22:10:27Z', '2026-11-22T22:10:27Z');
INSERT INTO "SyncHistory" ("id", "syncId", "customerId", "sourceId", "status", "createdCount", "updatedCount", "unchangedCount", "softDeletedCount", "revivedCount", "heldCount", "errorCount", "overdrawnCount", "message", "errors", "heldBudgetIds", "startedBy", "durationMs", "startTime", "endTime") VALUES (3, 'sync_1795385427_org-456_2', 'org-456', 'src_b6fffed49de2', 'partial', 1, 0, 0, 0, 0, 0, 1, 0, '1 row refused, the first is row 3: Sales, Q1 2025 (budget SAL-25Q1) belongs to source src_51f72bd66fa0: keep it in one sheet only.', '[{"row": 3, "message": "Sales, Q1 2025 (budget SAL-25Q1) belongs to source src_51f72bd66fa0: keep it in one sheet only"}]', '[]', 'root (command line)', 6, '2026-11-22T22:10:27Z', '2026-11-22T22:10:27Z');
INSERT INTO "SyncHistory" ("id", "syncId", "customerId", "sourceId", "status", "createdCount", "updatedCount", "unchangedCount", "softDeletedCount", "revivedCount", "heldCount", "errorCount", "overdrawnCount", "message", "errors", "heldBudgetIds", "startedBy", "durationMs", "startTime", "endTime") VALUES (4, 'sync_1795385429_org-456', 'org-456', 'src_51f72bd66fa0', 'success', 0, 0, 3, 0, 0, 0, 0, 0, NULL, '[]', '[]', 'root (command line)', 40, '2026-11-22T22:10:29Z', '2026-11-22T22:10:29Z');
INSERT INTO "SyncHistory" ("id", "syncId", "customerId", "sourceId", "status", "createdCount", "updatedCount", "unchangedCount", "softDeletedCount", "revivedCount", "heldCount", "errorCount", "overdrawnCount", "message", "errors", "heldBudgetIds", "startedBy", "durationMs", "startTime", "endTime") VALUES (5, 'sync_1795385429_org-456_2', 'org-456', 'src_b6fffed49de2', 'success', 0, 1, 0, 0, 0, 0, 0, 0, NULL, '[]', '[]', 'root (command line)', 6, '2026-11-22T22:10:29Z', '2026-11-22T22:10:29Z');
CREATE TRIGGER "AuditLog_no_update" BEFORE UPDATE ON "AuditLog"
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER "AuditLog_no_delete" BEFORE DELETE ON "AuditLog"
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER "AuditLog_no_replace" BEFORE INSERT ON "AuditLog"
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only') FROM "AuditLog" WHERE "id" = NEW."id";
    SELECT RAISE(ABORT, 'the audit log is append-only') FROM "AuditLog"
    WHERE "budgetId" = NEW."budgetId" AND "version" = NEW."version";
END;
CREATE TRIGGER "BudgetCheckLog_no_update" BEFORE UPDATE ON "BudgetCheckLog"
BEGIN SELECT RAISE(ABORT, 'the check log is append-only'); END;
CREATE TRIGGER "BudgetCheckLog_no_replace" BEFORE INSERT ON "BudgetCheckLog"
WHEN EXISTS (SELECT 1 FROM "BudgetCheckLog" WHERE "id" = NEW."id")
BEGIN SELECT RAISE(ABORT, 'the check log is append-only'); END;
CREATE TRIGGER "BudgetCheckLog_no_delete" BEFORE DELETE ON "BudgetCheckLog"
WHEN NOT EXISTS (
    SELECT 1 FROM "AuditLog"
    WHERE "action" = 'PRUNE_CHECKS' AND "customerId" = OLD."customerId"
        AND "newValue" > OLD."timestamp"
)
BEGIN SELECT RAISE(ABORT, 'check log rows leave only by flask prune-checks, which audits it'); END;
