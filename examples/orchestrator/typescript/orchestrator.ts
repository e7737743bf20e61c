/**
 * The five scenarios of the integration guide as one state machine.
 *
 * Reads the steps of a workflow as JSON lines, and prints the new state of each request.
 */

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import createClient from "openapi-fetch";
import { Webhook } from "standardwebhooks";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];
type Name = "submit" | "approve" | "reject" | "cancel" | "fulfill";
type Facts = Record<"by" | "reason" | "invoice", string> & { amount: number; intake: Intake };
type Intake = Schemas["CheckRequest"];
type Texts = Record<"id" | "state" | "budget" | "user", string>;
type Row = Texts & Record<"held" | "moves" | "amount", number>;

const { BUDGET_SYNC_URL: baseUrl, BUDGET_SYNC_KEY: key, PORT } = process.env;
const { WEBHOOK_SECRET = "", STORE = "", POLL_S = "60" } = process.env;
const UNDECIDED = ["awaiting_approval", "approved", "over_budget"];
const BEFORE = {
  // The states in which a step may begin.
  submit: ["new", "needs_correction", "released"],
  approve: UNDECIDED, reject: UNDECIDED, cancel: UNDECIDED,
  fulfill: ["approved"],
};

/** The code of an error that sending again does not solve. */
class Problem extends Error {}
const codeOf = (error: Error) => error.message;

/** Send a call until it is answered, for about 15 minutes. With a key, it is done only once. */
async function sendUntilAnswered(request: Request): Promise<Response> {
  for (let failures = 0; failures < 20; failures++) {
    let waitS = Math.min(2 ** failures, 60);
    try {
      const reply = await fetch(request.clone(), { signal: AbortSignal.timeout(10_000) });
      const body = await reply.arrayBuffer();
      const repeated = failures < 3 ? [429, 500, 502, 503, 504] : [429, 502, 503, 504];
      if (!repeated.includes(reply.status)) return new Response(body, reply);
      waitS = Math.max(waitS, Number(reply.headers.get("Retry-After")));
    } catch {
      // No reply, or only a part of it.
    }
    await sleep(waitS * 1000 * (1 + Math.random() * 0.3));
  }
  throw new Problem("NO_REPLY");
}

const headers = { Authorization: `Bearer ${key}` };
const api = createClient<paths>({ baseUrl, headers, fetch: sendUntilAnswered });

/** The reply to a call. Throws the code of an error. */
async function done<T extends object>(call: Promise<{ data?: T; error?: { code: string } }>) {
  const { data, error } = await call;
  if (data === undefined) throw new Problem(error?.code);
  if ("success" in data && !data.success && "code" in data) throw new Problem(String(data.code));
  return data;
}

type Kept = { requests: Record<string, Row>; events: Record<string, string>; cursor: string };
const empty: Kept = { requests: {}, events: {}, cursor: "latest" };
const kept: Kept = existsSync(STORE) ? JSON.parse(readFileSync(STORE, "utf8")) : empty;

/** Let one step or event change the requests at a time, and keep the result. */
let turn: Promise<unknown> = Promise.resolve();
function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const result = turn.then(work).finally(() => {
    writeFileSync(`${STORE}.new`, JSON.stringify(kept));
    renameSync(`${STORE}.new`, STORE);
  });
  turn = result.catch(() => {});
  return result;
}

/** Do a step of the workflow. After a problem, or a crash, it can be done again. */
async function step(name: Name, id: string, facts: Facts) {
  const unknown = { id, state: "new", budget: "", user: "", held: 0, moves: 0, amount: 0 };
  const row = (kept.requests[id] ??= unknown);
  if (!BEFORE[name].includes(row.state)) return { ...row, problem: `CANNOT_${name.toUpperCase()}` };
  const problem = await steps[name](row, facts).then(() => null, codeOf);
  return { ...row, problem };
}

const steps: Record<Name, (row: Row, facts: Facts) => Promise<void>> = {
  // Scenarios 1, 2 and 3.
  async submit(row, { intake }) {
    const body = { ...intake, requestId: row.id };
    const check = await done(api.POST("/api/budget/check", { body }));
    const budget = check.budget?.id ?? "";
    Object.assign(row, { user: intake.userId, amount: intake.amount, budget });
    if (!check.available) row.state = row.budget ? "over_budget" : "needs_correction";
    else await reserve(row, check.canAutoApprove ? "approved" : "awaiting_approval");
  },
  // Scenarios 2 and 3.
  async approve(row, { by, reason }) {
    if (row.state === "over_budget") await reserve(row, "approved", { approvedBy: by, reason });
    else row.state = "approved";
  },
  // Scenario 4.
  reject: (row, { reason }) => release(row, "rejected", { action: "reject", reason }),
  // Scenario 5.
  cancel: (row, { by, reason }) =>
    release(row, "cancelled", { action: "cancel", originalRequesterId: by, reason }),
  async fulfill(row, { amount, invoice }) {
    const body = { ...idsOf(row), amount, externalRef: invoice, final: true };
    await done(api.POST("/api/budget/commit", { params: keyOf(row), body }));
    moved(row, "fulfilled", 0);
  },
};

const idsOf = (row: Row) => ({ budgetId: row.budget, requestId: row.id });
const keyOf = (row: Row) => ({ header: { "Idempotency-Key": `${row.id}-${row.moves}` } });
const moved = (row: Row, state: string, held: number) =>
  Object.assign(row, { state, held, moves: row.moves + 1 });

async function reserve(row: Row, state: string, overBudget?: Schemas["OverBudget"]) {
  const body = { ...idsOf(row), amount: row.amount, userId: row.user, overBudget };
  const call = api.POST("/api/budget/reserve", { params: keyOf(row), body });
  const problem = await done(call).then(() => null, codeOf);
  if (problem === null) moved(row, state, row.amount);
  else if (problem !== "INSUFFICIENT_BUDGET") throw new Problem(problem);
  else row.state = "over_budget"; // another request was faster
}

type How = Pick<Schemas["ReleaseRequest"], "action" | "reason" | "originalRequesterId">;
async function release(row: Row, state: string, how: How) {
  await refresh(row); // FP&A may have changed the amount or the budget
  const body = { ...idsOf(row), amount: row.held, ...how };
  if (row.held) await done(api.POST("/api/budget/release", { params: keyOf(row), body }));
  moved(row, state, 0);
}

/** Read what people did in the console: another amount or budget, or the end of the hold. */
async function refresh(row: Row) {
  const params = { path: { requestId: row.id } };
  const { reservations } = await done(api.GET("/api/requests/{requestId}", { params }));
  const open = reservations.find((each) => each.status === "open");
  if (open) {
    Object.assign(row, { held: open.amountHeld, budget: open.budgetId });
    if (["over_budget", "released", "fulfilled"].includes(row.state)) row.state = "approved";
  } else if (["awaiting_approval", "approved"].includes(row.state)) {
    const isSpent = reservations.some((each) => each.amountCommitted > each.amountReversed);
    Object.assign(row, { state: isSpent ? "fulfilled" : "released", held: 0 });
  }
}

/** Handle an event from a webhook or from the feed, once. */
async function take(event: Schemas["Event"]) {
  const row = kept.requests[String(event.data.requestId)];
  if (row && !kept.events[event.id]) await refresh(row);
  kept.events[event.id] = event.type;
}

/** Handle a page of the feed, in case no webhook came. Returns whether there may be more. */
async function poll(): Promise<boolean> {
  const page = await done(api.GET("/api/events", { params: { query: { after: kept.cursor } } }));
  for (const event of page.items) await inTurn(() => take(event));
  await inTurn(async () => (kept.cursor = page.nextCursor));
  return page.items.length > 0;
}

async function follow() {
  for (;;) if (!(await poll().catch(() => false))) await sleep(Number(POLL_S) * 1000);
}

await poll();
void follow();
createServer(async (request, response) => {
  try {
    const [body, headers] = [await text(request), request.headers as Record<string, string>];
    const event = new Webhook(WEBHOOK_SECRET).verify(body, headers) as Schemas["Event"];
    await inTurn(() => take(event));
    response.writeHead(204).end();
  } catch (error) {
    response.writeHead(error instanceof Problem ? 503 : 400).end(); // after 503, it arrives again
  }
}).listen(Number(PORT), "127.0.0.1");
for await (const line of createInterface({ input: process.stdin })) {
  const { step: name, requestId, ...facts } = JSON.parse(line);
  console.log(JSON.stringify(await inTurn(() => step(name, requestId, facts))));
}
process.exit();
