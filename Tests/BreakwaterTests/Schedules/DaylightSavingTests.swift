import BreakwaterTesting
import Libpq
import Testing

/// Ten zones that treat daylight saving differently: by an hour, by half an hour, at midnight, by decree, across the date
/// line, suspended for a month, negative in winter, given up, and never.
private let zones = [
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo", "Pacific/Apia",
    "Africa/Casablanca", "Europe/Dublin", "America/Sao_Paulo", "Asia/Kathmandu",
]

@Suite("Daylight saving from 2010 to 2030", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct DaylightSavingTests {
    /// Functions that find the slots by another way: on days far from any change of the clock, by PostgreSQL's own
    /// conversion; around a change, by looking at the clock every quarter of an hour.
    private static let functions = """
        create function public.is_plain(d timestamp, z text) returns boolean language sql
        return ((d - interval '3 days') at time zone z) - ((d - interval '3 days') at time zone 'UTC')
             = ((d + interval '4 days') at time zone z) - ((d + interval '4 days') at time zone 'UTC');

        -- A fixed time comes at the first moment at which the clock shows it or a later time.
        create function public.fixed_times(t interval, z text) returns setof timestamptz language sql as $$
            select (d + t) at time zone z from generate_series(timestamp '2010-01-02', '2029-12-30', '1 day') d
             where public.is_plain(d, z)
            union
            select (select min(q) from generate_series((d at time zone 'UTC') - interval '15 hours',
                                                       (d at time zone 'UTC') + interval '63 hours', '15 minutes') q
                     where q at time zone z >= d + t)
              from generate_series(timestamp '2010-01-02', '2029-12-30', '1 day') d
             where not public.is_plain(d, z)
        $$;

        -- A wildcard comes at each moment at which the clock shows a time that matches.
        create function public.wildcard_times(minutes integer[], hours integer[], z text) returns setof timestamptz
        language sql as $$
            select (d + make_interval(hours => h, mins => m)) at time zone z
              from generate_series(timestamp '2010-01-02', '2029-12-30', '1 day') d, unnest(hours) h, unnest(minutes) m
             where public.is_plain(d, z)
            union
            select q
              from generate_series(timestamp '2010-01-02', '2029-12-30', '1 day') d,
                   generate_series((d at time zone 'UTC') - interval '15 hours',
                                   (d at time zone 'UTC') + interval '63 hours', '15 minutes') q
             where not public.is_plain(d, z) and (q at time zone z)::date = d::date
               and extract(hour from q at time zone z) = any (hours)
               and extract(minute from q at time zone z) = any (minutes)
        $$;

        create function public.slots(c text, z text) returns setof timestamptz language plpgsql as $$
        declare
            v_cron breakwater.cron := breakwater.read_cron(c);
            v_slot timestamptz := timestamp '2010-01-02' at time zone z - interval '1 second';
        begin
            loop
                v_slot := breakwater.next_cron_slot(v_cron, z, v_slot);
                exit when v_slot >= timestamp '2029-12-31' at time zone z;
                return next v_slot;
            end loop;
        end $$;
        """

    /// The slots that are in one of the two sets only.
    private func difference(_ database: TestDatabase, _ slots: String, _ expected: String, _ zone: String) async throws
        -> [String]
    {
        try await database.texts(
            """
            with s as (select \(slots) as t), e as (select \(expected) as t),
                 x as ((select t, 'too much' as w from s except all select t, 'too much' from e)
                       union all (select t, 'missing' from e except all select t, 'missing' from s))
            select format('%s %s, %s there', w, t, t at time zone $1) from x order by t limit 5
            """,
            [.text(zone)]
        )
    }

    @Test("fixed times in a gap come at its end, and those that come twice come the first time only", arguments: zones)
    func fixedTimes(zone: String) async throws {
        try await withTestDatabase { database in
            try await database.connection.script(Self.functions)
            for (hour, minute) in [(0, 0), (0, 30), (1, 30), (2, 30), (23, 45)] {
                let wrong = try await difference(
                    database,
                    "public.slots('\(minute) \(hour) * * *', $1)",
                    "public.fixed_times(interval '\(hour) hours \(minute) minutes', $1)",
                    zone
                )
                #expect(wrong == [], "at \(hour):\(minute)")
            }
        }
    }

    @Test("wildcards follow UTC: never in a gap, and both times where the clock is set back", arguments: zones)
    func wildcards(zone: String) async throws {
        try await withTestDatabase { database in
            try await database.connection.script(Self.functions)
            for (cron, minutes, hours) in [
                ("*/30 1,2 * * *", "{0,30}", "{1,2}"), ("*/30 0,23 * * *", "{0,30}", "{0,23}"),
                ("45 */12 * * *", "{45}", "{0,12}"),
            ] {
                let wrong = try await difference(
                    database,
                    "public.slots('\(cron)', $1)",
                    "public.wildcard_times('\(minutes)', '\(hours)', $1)",
                    zone
                )
                #expect(wrong == [], "\(cron)")
            }
        }
    }

    @Test("known nights come as they are written down here")
    func knownNights() async throws {
        try await withTestDatabase { database in
            for (cron, zone, after, expected) in [
                // Berlin skips 02:00 to 03:00.
                ("30 2 * * *", "Europe/Berlin", "2027-03-28 00:00Z", ["2027-03-28 01:00", "2027-03-29 00:30"]),
                ("*/30 2 * * *", "Europe/Berlin", "2027-03-27 02:00Z", ["2027-03-29 00:00", "2027-03-29 00:30"]),
                ("30 2,3 * * *", "Europe/Berlin", "2027-03-28 00:00Z", ["2027-03-28 01:00", "2027-03-28 01:30"]),
                // A time in the gap and one at its end are one slot.
                ("0 2,3 * * *", "Europe/Berlin", "2027-03-28 00:00Z", ["2027-03-28 01:00", "2027-03-29 00:00"]),
                // Berlin has 02:00 to 03:00 twice.
                ("30 2 * * *", "Europe/Berlin", "2027-10-30 22:00Z", ["2027-10-31 00:30", "2027-11-01 01:30"]),
                (
                    "*/30 2 * * *", "Europe/Berlin", "2027-10-30 22:00Z",
                    [
                        "2027-10-31 00:00", "2027-10-31 00:30", "2027-10-31 01:00", "2027-10-31 01:30",
                        "2027-11-01 01:00",
                    ]
                ),
                (
                    "0 * * * *", "Europe/Berlin", "2027-10-30 23:30Z",
                    ["2027-10-31 00:00", "2027-10-31 01:00", "2027-10-31 02:00"]
                ),
                // Samoa skipped the whole of 30 December 2011.
                (
                    "0 12 * * *", "Pacific/Apia", "2011-12-29 12:00Z",
                    ["2011-12-29 22:00", "2011-12-30 10:00", "2011-12-30 22:00"]
                ),
                // Lord Howe skips half an hour.
                ("15 2 * * *", "Australia/Lord_Howe", "2027-10-02 12:00Z", ["2027-10-02 15:30", "2027-10-03 15:15"]),
            ] {
                let found = try await database.texts(
                    """
                    select to_char(n at time zone 'UTC', 'YYYY-MM-DD HH24:MI')
                      from breakwater.next_slots(breakwater.read_cron($1), null, $2, $3::text::timestamptz, $4) n
                    """,
                    [.text(cron), .text(zone), .text(after), .int4(Int32(expected.count))]
                )
                #expect(found == expected, "\(cron) in \(zone)")
            }
        }
    }

    @Test("intervals are multiples since 1970, whatever the zone", arguments: [1, 90, 3600, 86_400, 315_360_000])
    func intervals(seconds: Int) async throws {
        try await withTestDatabase { database in
            let found = try await database.numbers(
                """
                select extract(epoch from n)::bigint
                  from breakwater.next_slots(null, make_interval(secs => $1), 'Europe/Berlin', '2027-03-28 00:59:59.5Z', 3) n
                """,
                [.float8(Double(seconds))]
            )
            let first = (Int64(1_806_195_599) / Int64(seconds) + 1) * Int64(seconds)
            #expect(found == [first, first + Int64(seconds), first + 2 * Int64(seconds)])
        }
    }
}
