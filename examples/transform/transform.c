/* SPDX-License-Identifier: Apache-2.0 */
/* One worker of a data transformation: reads /data/in/station-<index>.csv (time,celsius), writes the daily
 * minimum, mean and maximum as JSON lines to /data/out. Its index comes from the Job (completionMode:
 * Indexed). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct day {
    char date[11];
    double min, max, sum;
    long n;
};

static void put_day(FILE *out, const char *station, const struct day *d)
{
    if (d->n > 0)
        fprintf(
            out,
            "{\"station\":\"%s\",\"date\":\"%s\",\"min\":%.1f,\"mean\":%.2f,\"max\":%.1f,\"readings\":%ld}\n",
            station, d->date, d->min, d->sum / (double)d->n, d->max, d->n);
}

/* Lines that are no reading are counted and left out. */
static long transform(FILE *in, FILE *out, const char *station, long *ret_bad)
{
    char line[256];
    struct day d = {0};
    long readings = 0, bad = 0;

    while (fgets(line, sizeof(line), in) != NULL) {
        char date[11];
        double celsius;
        if (sscanf(line, "%10[0-9-]T%*[^,],%lf", date, &celsius) != 2) {
            bad++;
            continue;
        }
        if (strcmp(date, d.date) != 0) {
            put_day(out, station, &d);
            d = (struct day){.min = celsius, .max = celsius};
            memcpy(d.date, date, sizeof(d.date));
        }
        d.min = celsius < d.min ? celsius : d.min;
        d.max = celsius > d.max ? celsius : d.max;
        d.sum += celsius;
        d.n++;
        readings++;
    }
    put_day(out, station, &d);
    *ret_bad = bad;
    return readings;
}

int main(void)
{
    const char *station = getenv("JOB_COMPLETION_INDEX");
    char in_path[64], out_path[64];
    long bad = 0;

    if (station == NULL || strlen(station) > 8) {
        fprintf(stderr, "JOB_COMPLETION_INDEX is not set: run me as an indexed Job\n");
        return 2;
    }
    snprintf(in_path, sizeof(in_path), "/data/in/station-%s.csv", station);
    snprintf(out_path, sizeof(out_path), "/data/out/station-%s.jsonl", station);
    FILE *in = fopen(in_path, "r");
    FILE *out = in != NULL ? fopen(out_path, "w") : NULL;
    if (in == NULL || out == NULL) {
        fprintf(stderr, "%s: %s\n", in == NULL ? in_path : out_path, strerror(errno));
        return 1;
    }
    long readings = transform(in, out, station, &bad);
    if (fclose(out) != 0) {
        fprintf(stderr, "%s: %s\n", out_path, strerror(errno));
        return 1;
    }
    printf("station %s: %ld readings, %ld lines left out\n", station, readings, bad);
    return 0;
}
