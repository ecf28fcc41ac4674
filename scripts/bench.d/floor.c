// What Postgres itself can do with jobs: claim a batch by a heap-only update, delete the batch before it, in one
// transaction and one round trip; nothing else. Whatever a queue adds to this is its own cost.
//
//     floor CONNINFO TABLE BATCH CONNECTIONS
//
// Drains TABLE, which is laid out as breakwater.job and holds jobs of one lane, and prints how many jobs there were
// and in how many seconds, from the first claim to the last commit.

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LARGEST_BATCH = 10000, TID_OID = 27, TID_BYTES = 6 };

static const char *conninfo, *table;
static int batch;

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

static uint64_t get64(const char *from) {
    uint64_t value;
    memcpy(&value, from, 8);
    return __builtin_bswap64(value);
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

static void prepare(PGconn *connection) {
    char sql[2000];
    run(connection, "set enable_seqscan = off; set enable_bitmapscan = off; set enable_sort = off;"
                    "set plan_cache_mode = force_generic_plan");
    snprintf(sql, sizeof sql, "delete from %s where ctid = any ($1::tid[]) and worker = 1", table);
    PQclear(PQprepare(connection, "settle", sql, 0, NULL));
    // The limit is part of the text: as a parameter it could change the plan.
    snprintf(sql, sizeof sql,
             "update %s set worker = 1, lease = lease + 1, attempt = attempt + 1 where ctid = any (array("
             "select ctid from %s where queue = 'bench.queue1' and kind = 'bench.kind1' and priority = 5 "
             "and position > $1::int8 and run_at is null and worker is null order by position limit %d "
             "for update skip locked)) returning ctid, id, position, kind, payload, attempt, lease",
             table, table, batch);
    PQclear(PQprepare(connection, "claim", sql, 0, NULL));
}

static void *drain(void *total) {
    static __thread char tids[20 + LARGEST_BATCH * (4 + TID_BYTES)];
    PGconn *connection = PQconnectdb(conninfo);
    if (PQstatus(connection) != CONNECTION_OK) give_up(connection, "connecting");
    prepare(connection);
    PQenterPipelineMode(connection);

    uint64_t cursor = 0;
    int held = 0, length = 0;
    long jobs = 0;
    while (1) {
        if (held) {
            const char *values[] = {tids};
            PQsendQueryPrepared(connection, "settle", 1, values, &length, (int[]){1}, 1);
        }
        uint64_t after = __builtin_bswap64(cursor);
        const char *values[] = {(char *)&after};
        PQsendQueryPrepared(connection, "claim", 1, values, (int[]){8}, (int[]){1}, 1);
        PQpipelineSync(connection);

        if (held) PQclear(next_result(connection, PGRES_COMMAND_OK));
        PGresult *result = next_result(connection, PGRES_TUPLES_OK);
        held = PQntuples(result);
        char *to = tids;
        for (int i = 0; i < 5; i++) put32(&to, (uint32_t[]){1, 0, TID_OID, (uint32_t)held, 1}[i]);
        for (int row = 0; row < held; row++) {
            put32(&to, TID_BYTES);
            memcpy(to, PQgetvalue(result, row, 0), TID_BYTES);
            to += TID_BYTES;
            uint64_t position = get64(PQgetvalue(result, row, 2));
            if (position > cursor) cursor = position;
        }
        length = (int)(to - tids);
        jobs += held;
        PQclear(result);
        PQclear(next_result(connection, PGRES_PIPELINE_SYNC));
        if (!held) break;
    }
    PQfinish(connection);
    *(long *)total = jobs;
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 5) {
        fprintf(stderr, "usage: floor CONNINFO TABLE BATCH CONNECTIONS\n");
        return 64;
    }
    conninfo = arguments[1];
    table = arguments[2];
    batch = atoi(arguments[3]);
    int connections = atoi(arguments[4]);
    if (batch < 1 || batch > LARGEST_BATCH || connections < 1 || connections > 16) {
        fprintf(stderr, "floor: the batch is 1 to %d jobs, the connections 1 to 16\n", LARGEST_BATCH);
        return 64;
    }
    pthread_t threads[16];
    long jobs[16], total = 0;
    double start = now();
    for (int i = 0; i < connections; i++) pthread_create(&threads[i], NULL, drain, &jobs[i]);
    for (int i = 0; i < connections; i++) {
        pthread_join(threads[i], NULL);
        total += jobs[i];
    }
    printf("%ld %.6f\n", total, now() - start);
    return 0;
}
