/* A program of the first release: its structs end where later ones go on, and it must go on working. It is compiled without the header of
 * today, against what it declared then. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef struct afterimage_model afterimage_model;
typedef struct afterimage_result afterimage_result;
typedef struct afterimage_error afterimage_error;
typedef struct afterimage_cancel afterimage_cancel;

/* Shorter than today's: there were no previews and no warnings. */
typedef struct {
  size_t size;
  void *user_data;
  int32_t (*progress)(void *user_data, const void *progress);
} old_callbacks;

typedef struct {
  size_t size;
  const char *device;
} old_open_options;

typedef struct {
  size_t size;
  uint64_t items;
} old_shape;

uint32_t afterimage_abi_version(void);
int32_t afterimage_model_open(const char *, const old_open_options *, afterimage_model **, afterimage_error **);
int32_t afterimage_run(const afterimage_model *, const char *, const old_callbacks *, const afterimage_cancel *,
                       afterimage_result **, afterimage_error **);
int32_t afterimage_result_shape(const afterimage_result *, old_shape *, afterimage_error **);
int32_t afterimage_result_free(afterimage_result *);
int32_t afterimage_model_free(afterimage_model *);

static int32_t step(void *user_data, const void *progress) {
  (void)progress;
  ++*(int *)user_data;
  return 0;
}

int main(void) {
  int steps = 0;
  old_open_options options = {sizeof options, "cpu"};
  old_callbacks callbacks = {sizeof callbacks, &steps, step};
  struct {
    old_shape shape;
    uint64_t beyond;
  } place = {{sizeof(old_shape), 0}, 42};
  afterimage_model *model = NULL;
  afterimage_result *result = NULL;
  const char *recipe = "{\"version\": 1, \"prompts\": [\"a red circle\"], \"seed\": 7, \"steps\": 3}";
  if (afterimage_abi_version() != 1) return 1;
  if (afterimage_model_open("bundled", &options, &model, NULL) != 0) return 2;
  if (afterimage_run(model, recipe, &callbacks, NULL, &result, NULL) != 0) return 3;
  if (afterimage_result_shape(result, &place.shape, NULL) != 0) return 4;
  if (place.shape.items != 1 || place.beyond != 42 || place.shape.size != sizeof(old_shape)) return 5;
  if (steps < 3 || afterimage_result_free(result) != 0 || afterimage_model_free(model) != 0) return 6;
  puts("old: a program of the first release goes on working");
  return 0;
}
