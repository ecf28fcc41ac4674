// What Postgres itself can do with jobs that are claimed and settled as Breakwater does: lock the lane, read its newest
// claim, and add a claim with the next jobs, committed without waiting for the disk; then, in the same round trip,
// delete the batch before it, and wait for the disk. Nothing else. Whatever a queue adds to this is its own cost.
//
//     floor CONNINFO SCHEMA BATCH CONNECTIONS
//
// Drains SCHEMA.job. That table, `claim` and `lane` are laid out as those of Breakwater; `lane` has one row, and all jobs
// are in that lane. Prints how many jobs there were and in how many seconds, from the first claim to the last commit.

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LARGEST_BATCH = 10000, TID_OID = 27, TID_BYTES = 6 };

static const char *conninfo, *schema;
static int batch;
static pthread_barrier_t ready;

static void give_up(PGconn *connection, const char *what) {
    fprintf(stderr, "floor: %s: %s", what, PQerrorMessage(connection));
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void put32(char **to, uint32_t value) {
    value = htonl(value);
    memcpy(*to, &value, 4);
    *to += 4;
}

// One result, which must be of `wanted`, and the NULL behind it.
static PGresult *next_result(PGconn *connection, ExecStatusType wanted) {
    PGresult *result = PQgetResult(connection), *end;
    if (!result || PQresultStatus(result) != wanted) give_up(connection, "unexpected answer");
    if (wanted != PGRES_PIPELINE_SYNC && (end = PQgetResult(connection))) give_up(connection, "two answers");
    return result;
}

static void run(PGconn *connection, const char *sql) {
    PGresult *result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) give_up(connection, sql);
    PQclear(result);
}

static void prepare_one(PGconn *connection, const char *name, const char *sql) {
    PGresult *result = PQprepare(connection, name, sql, 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) give_up(connection, name);
    PQclear(result);
}

static void prepare(PGconn *connection) {
    char sql[2000];
    snprintf(sql, sizeof sql,
             "set search_path = %s; set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off;"
             "set plan_cache_mode = force_generic_plan; set jit = off",
             schema);
    run(connection, sql);
    // Waits for the claim of another connection, which takes a moment. The claim itself is a statement of its own, for it
    // must see what that one committed.
    prepare_one(connection, "lock",
                "select nextval('claim_lease'), set_config('synchronous_commit', 'off', true) from lane "
                "where queue = 'bench.queue1' and kind = 'bench.kind1' and priority = 5 for update");
    // The limit is part of the text: as a parameter it could change the plan.
    snprintf(sql, sizeof sql,
             "with taken as materialized ("
             "select id, position, kind, payload, attempt, ctid from job j "
             "where queue = 'bench.queue1' and kind = 'bench.kind1' and priority = 5 and run_at is null "
             "and position > coalesce((select last from claim where lane = 1 order by last desc, lease desc limit 1), 0) "
             "order by position limit %d"
             "), noted as ("
             "insert into claim (lease, worker, lane, last, floor, jobs) "
             "select currval('claim_lease'), 1, 1, max(position), 0, array_agg(id) from taken having count(*) > 0"
             ") select ctid, id, position, kind, payload, attempt from taken",
             batch);
    prepare_one(connection, "claim", sql);
    // The newest claim stays, for the next one begins where it ends.
    prepare_one(connection, "settle",
                "with closed as ("
                "delete from claim c where lease = $2::int8 and exists ("
                "select from claim n where n.lane = 1 and (n.last, n.lease) > (c.last, c.lease))"
                ") delete from job where ctid = any ($1::tid[]) and lease < $2::int8");
}

static void *drain(void *total) {
    static __thread char tids[20 + LARGEST_BATCH * (4 + TID_BYTES)];
    PGconn *connection = PQconnectdb(conninfo);
    if (PQstatus(connection) != CONNECTION_OK) give_up(connection, "connecting");
    prepare(connection);
    PQenterPipelineMode(connection);
    pthread_barrier_wait(&ready);

    char lease[8];
    int held = 0, length = 0;
    long jobs = 0;
    while (1) {
        // What lies between two synchronization points is one transaction.
        PQsendQueryPrepared(connection, "lock", 0, NULL, NULL, NULL, 1);
        PQsendQueryPrepared(connection, "claim", 0, NULL, NULL, NULL, 1);
        PQpipelineSync(connection);
        if (held) {
            const char *values[] = {tids, lease};
            PQsendQueryPrepared(connection, "settle", 2, values, (int[]){length, sizeof lease}, (int[]){1, 1}, 1);
            PQpipelineSync(connection);
        }

        PGresult *lock = next_result(connection, PGRES_TUPLES_OK);
        if (PQntuples(lock) != 1) give_up(connection, "there is no lane");
        PGresult *claim = next_result(connection, PGRES_TUPLES_OK);
        PQclear(next_result(connection, PGRES_PIPELINE_SYNC));
        if (held) {
            PGresult *settle = next_result(connection, PGRES_COMMAND_OK);
            if (atoi(PQcmdTuples(settle)) != held) give_up(connection, "a job was lost");
            PQclear(settle);
            PQclear(next_result(connection, PGRES_PIPELINE_SYNC));
        }
        // From here on, the jobs of the claim might run.
        memcpy(lease, PQgetvalue(lock, 0, 0), sizeof lease);
        held = PQntuples(claim);
        char *to = tids;
        for (int i = 0; i < 5; i++) put32(&to, (uint32_t[]){1, 0, TID_OID, (uint32_t)held, 1}[i]);
        for (int row = 0; row < held; row++) {
            put32(&to, TID_BYTES);
            memcpy(to, PQgetvalue(claim, row, 0), TID_BYTES);
            to += TID_BYTES;
        }
        length = (int)(to - tids);
        jobs += held;
        PQclear(lock);
        PQclear(claim);
        if (!held) break;
    }
    PQfinish(connection);
    *(long *)total = jobs;
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 5) {
        fprintf(stderr, "usage: floor CONNINFO SCHEMA BATCH CONNECTIONS\n");
        return 64;
    }
    conninfo = arguments[1];
    schema = arguments[2];
    batch = atoi(arguments[3]);
    int connections = atoi(arguments[4]);
    if (batch < 1 || batch > LARGEST_BATCH || connections < 1 || connections > 16) {
        fprintf(stderr, "floor: the batch is 1 to %d jobs, the connections 1 to 16\n", LARGEST_BATCH);
        return 64;
    }
    pthread_t threads[16];
    long jobs[16], total = 0;
    pthread_barrier_init(&ready, NULL, connections + 1);
    for (int i = 0; i < connections; i++) pthread_create(&threads[i], NULL, drain, &jobs[i]);
    pthread_barrier_wait(&ready);
    double start = now();
    for (int i = 0; i < connections; i++) {
        pthread_join(threads[i], NULL);
        total += jobs[i];
    }
    printf("%ld %.6f\n", total, now() - start);
    return 0;
}
