/* A stand-in for DJI's libdirp, with the functions, sizes and codes of its interface and none of its knowledge: the
 * "temperature" of pixel i is (20 + i / 100) degrees Celsius, and a frame is 80 x 60. Built by test_dji.py; -D options
 * choose what goes wrong. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int32_t width, height; } resolution_t;
typedef struct { const uint8_t *data; int32_t size; uint32_t sum; } handle_t;

int32_t open_handles = 0, busy = 0, overlaps = 0;

static uint32_t sum_of(const uint8_t *data, int32_t size)
{
    uint32_t sum = 0;
    for (int32_t i = 0; i < size; i++) sum = sum * 31 + data[i];
    return sum;
}

static void work(void) /* long enough that two threads would meet in here */
{
    if (__atomic_add_fetch(&busy, 1, __ATOMIC_SEQ_CST) > 1) __atomic_add_fetch(&overlaps, 1, __ATOMIC_SEQ_CST);
    for (volatile int i = 0; i < 200000; i++) {}
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

int32_t dirp_create_from_rjpeg(const uint8_t *data, int32_t size, void **handle)
{
#ifdef REFUSES
    return REFUSES;
#endif
    if (size < 2 || data[0] != 0xff || data[1] != 0xd8) return -7;
    handle_t *made = malloc(sizeof *made);
    made->data = data, made->size = size, made->sum = sum_of(data, size);
    *handle = made;
    open_handles++;
    return 0;
}

int32_t dirp_get_rjpeg_resolution(void *handle, resolution_t *resolution)
{
    if (!handle) return -9;
    resolution->width = 80, resolution->height = 60;
#ifdef WIDTH
    resolution->width = WIDTH;
#endif
    return 0;
}

static int32_t check(handle_t *handle, int32_t size, int32_t bytes)
{
    work();
    if (sum_of(handle->data, handle->size) != handle->sum) return -2; /* the file's bytes did not stay in place */
    return size == 80 * 60 * bytes ? 0 : -8;
}

#ifndef NO_MEASURE
int32_t dirp_measure(void *handle, int16_t *values, int32_t size)
{
    int32_t code = check(handle, size, 2);
    for (int i = 0; !code && i < 80 * 60; i++) values[i] = (int16_t)(200 + i / 10);
    return code;
}
#endif

#ifndef OLD
int32_t dirp_measure_ex(void *handle, float *values, int32_t size)
{
    int32_t code = check(handle, size, 4);
    for (int i = 0; !code && i < 80 * 60; i++) values[i] = 20.0f + (float)i / 100.0f;
#ifdef HOT
    for (int i = 0; !code && i < 80 * 60; i++) values[i] = 1e6f;
#endif
    return code;
}
#endif

int32_t dirp_destroy(void *handle)
{
    free(handle);
    open_handles--;
    return 0;
}
