/* Every call, and every mistake that a program can make with it. Ends with 0 if all answers are right. */
#include "common.h"
#include <math.h>

/* Where files go. */
static const char *folder = "/tmp";

struct heard {
  int steps;
  int previews;
  /* A number of the last preview's bytes. */
  uint64_t sum;
  int warnings;
  int stop_at;
  afterimage_cancel *cancel;
  const afterimage_model *model;
  /* Freed by the first call. */
  afterimage_model *last;
};

static int32_t progress(void *user_data, const afterimage_progress *told) {
  struct heard *heard = user_data;
  heard->steps += 1;
  EXPECT(told->size == sizeof *told && told->done <= told->total);
  if (heard->model != NULL) { /* a run within a run would wait for ever */
    afterimage_result *result = NULL;
    afterimage_error *error = NULL;
    afterimage_code code = afterimage_run(heard->model, RECIPE, NULL, NULL, &result, &error);
    failed(code, &error, AFTERIMAGE_CODE_ARGUMENT, "a callback");
    EXPECT(result == NULL);
  }
  if (heard->cancel != NULL) EXPECT(afterimage_cancel_after_this(heard->cancel) == AFTERIMAGE_CODE_OK);
  if (heard->last != NULL) {
    EXPECT(afterimage_model_free(heard->last) == AFTERIMAGE_CODE_OK);
    EXPECT(afterimage_model_free(heard->last) == AFTERIMAGE_CODE_HANDLE);
    heard->last = NULL;
  }
  return heard->stop_at == heard->steps;
}

static void preview(void *user_data, const afterimage_preview *shown) {
  struct heard *heard = user_data;
  heard->previews += 1;
  EXPECT(shown->item == 0 && shown->length == shown->width * shown->height * 4 && shown->pixels[3] == 255);
  heard->sum = 0;
  for (uint64_t byte = 0; byte < shown->length; byte++) heard->sum = heard->sum * 31 + shown->pixels[byte];
}

static void warning(void *user_data, const char *text) {
  struct heard *heard = user_data;
  heard->warnings += 1;
  EXPECT(strlen(text) > 0);
}

static afterimage_callbacks callbacks(struct heard *heard) {
  afterimage_callbacks callbacks = {0};
  callbacks.size = sizeof callbacks;
  callbacks.user_data = heard;
  callbacks.progress = progress;
  callbacks.warning = warning;
  callbacks.preview = preview;
  callbacks.preview_every = 2;
  return callbacks;
}

static void versions_and_devices(void) {
  EXPECT(afterimage_abi_version() == AFTERIMAGE_ABI_VERSION);
  EXPECT(strchr(afterimage_version(), '.') != NULL);
  char *json = NULL;
  afterimage_error *error = NULL;
  fine(afterimage_devices(&json, &error), &error);
  EXPECT(json[0] == '[' && strstr(json, "\"selector\":\"cpu\"") != NULL);
  EXPECT(afterimage_free(json) == AFTERIMAGE_CODE_OK);
  EXPECT(afterimage_free(json) == AFTERIMAGE_CODE_HANDLE);
  EXPECT(afterimage_free(NULL) == AFTERIMAGE_CODE_OK);
  failed(afterimage_devices(NULL, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "null");
}

static void plans(void) {
  char *json = NULL;
  afterimage_error *error = NULL;
  const char *recipe = "{\"version\": 1, \"steps\": 9, \"cache\": \"deepcache:interval=3,branch=0\"}";
  fine(afterimage_plan(recipe, &json, &error), &error);
  EXPECT(strstr(json, "\"predicted_speedup\":") != NULL);
  afterimage_free(json);
  json = NULL;
  failed(afterimage_plan("{", &json, &error), &error, AFTERIMAGE_CODE_REQUEST, "recipe");
  failed(afterimage_plan("{\"version\": 99}", &json, &error), &error, AFTERIMAGE_CODE_REQUEST, "version");
  failed(afterimage_plan("{\"version\": 1, \"stepz\": 1}", &json, &error), &error, AFTERIMAGE_CODE_REQUEST, "stepz");
  failed(afterimage_plan(NULL, &json, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "null");
  failed(afterimage_plan("\xff", &json, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "UTF-8");
  const char *odd = "{\"version\": 1, \"size\": [7, 7]}";
  failed(afterimage_plan(odd, &json, &error), &error, AFTERIMAGE_CODE_REQUEST, "7x7");
  failed(afterimage_plan("[1]", &json, &error), &error, AFTERIMAGE_CODE_REQUEST, "a list");
  const char *endless = "{\"version\": 1, \"steps\": 1000000000}";
  failed(afterimage_plan(endless, &json, &error), &error, AFTERIMAGE_CODE_REQUEST, "1000000000");
  EXPECT(json == NULL);
}

static void models_that_are_none(void) {
  afterimage_model *model = NULL;
  afterimage_error *error = NULL;
  failed(afterimage_model_open("no-such-model", NULL, &model, &error), &error, AFTERIMAGE_CODE_REQUEST, "no-such-model");
  failed(afterimage_model_open("bundled", NULL, NULL, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "null");
  afterimage_open_options options = {0};
  failed(afterimage_model_open("bundled", &options, &model, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "0 bytes");
  options.size = (size_t)-1;
  failed(afterimage_model_open("bundled", &options, &model, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "bytes");
  options.size = sizeof(size_t) + 4; /* half of a pointer */
  failed(afterimage_model_open("bundled", &options, &model, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "12 bytes");
  options.size = sizeof options;
  options.device = "abacus";
  failed(afterimage_model_open("bundled", &options, &model, &error), &error, AFTERIMAGE_CODE_REQUEST, "abacus");
  options.device = "cuda:1";
  failed(afterimage_model_open("bundled", &options, &model, &error), &error, AFTERIMAGE_CODE_DEVICE, "cuda");
  options.device = "cpu";
  options.recipe = "{\"version\": 1, \"dtype\": \"f8\"}";
  failed(afterimage_model_open("bundled", &options, &model, &error), &error, AFTERIMAGE_CODE_REQUEST, "f8");
  options.recipe = "{\"version\": 1, \"loras\": [{\"file\": {\"path\": \"absent.safetensors\"}}]}";
  failed(afterimage_model_open("bundled", &options, &model, &error), &error, AFTERIMAGE_CODE_FILE, "absent");
  struct {
    afterimage_open_options known;
    uint64_t later;
  } newer = {{0}, 1};
  newer.known.size = sizeof newer;
  failed(afterimage_model_open("bundled", &newer.known, &model, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "not known");
  EXPECT(model == NULL);
  /* Whoever wants no reasons leaves out their place. */
  EXPECT(afterimage_model_open("no-such-model", NULL, &model, NULL) == AFTERIMAGE_CODE_REQUEST);
}

static void handles_that_are_none(afterimage_model *model) {
  afterimage_result *result = NULL;
  afterimage_error *error = NULL;
  failed(afterimage_run(NULL, RECIPE, NULL, NULL, &result, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "null");
  const afterimage_model *stray = (const afterimage_model *)(uintptr_t)0xdead;
  failed(afterimage_run(stray, RECIPE, NULL, NULL, &result, &error), &error, AFTERIMAGE_CODE_HANDLE, "model");
  const afterimage_cancel *other = (const afterimage_cancel *)model;
  failed(afterimage_run(model, RECIPE, NULL, other, &result, &error), &error, AFTERIMAGE_CODE_HANDLE, "cancel token");
  EXPECT(afterimage_cancel_now(other) == AFTERIMAGE_CODE_HANDLE);
  EXPECT(afterimage_cancel_free((afterimage_cancel *)model) == AFTERIMAGE_CODE_HANDLE);
  EXPECT(afterimage_model_free(NULL) == AFTERIMAGE_CODE_OK && afterimage_result_free(NULL) == AFTERIMAGE_CODE_OK);
  EXPECT(afterimage_error_code(NULL) == AFTERIMAGE_CODE_ARGUMENT && afterimage_error_message(NULL) == NULL);
  failed(afterimage_run(model, NULL, NULL, NULL, &result, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "null");
  failed(afterimage_run(model, "a fox", NULL, NULL, &result, &error), &error, AFTERIMAGE_CODE_REQUEST, "recipe");
  failed(afterimage_run(model, RECIPE, NULL, NULL, NULL, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "null");
  const char *other_model = "{\"version\": 1, \"model\": {\"name\": \"another\"}}";
  failed(afterimage_run(model, other_model, NULL, NULL, &result, &error), &error, AFTERIMAGE_CODE_REQUEST, "another");
  const char *no_plan = "{\"version\": 1, \"steps\": 4, \"cache\": \"deepcache:interval=2,branch=99\"}";
  failed(afterimage_run(model, no_plan, NULL, NULL, &result, &error), &error, AFTERIMAGE_CODE_PLAN, "99");
  afterimage_callbacks small = {0};
  small.size = 3;
  failed(afterimage_run(model, RECIPE, &small, NULL, &result, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "3 bytes");
  small.size = sizeof small - 1;
  failed(afterimage_run(model, RECIPE, &small, NULL, &result, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "bytes");
  EXPECT(result == NULL);
}

static void pictures(afterimage_result *result) {
  afterimage_error *error = NULL;
  afterimage_shape shape = {0};
  failed(afterimage_result_shape(result, &shape, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "0 bytes");
  shape.size = sizeof shape;
  fine(afterimage_result_shape(result, &shape, &error), &error);
  EXPECT(shape.items == 1 && shape.frames == 1 && shape.width >= 64 && shape.height >= 64);
  size_t pixels = shape.width * shape.height;
  uint8_t *own = malloc(pixels * 4);
  float *floats = malloc(pixels * 3 * sizeof(float));
  fine(afterimage_result_rgba8(result, 0, 0, own, pixels * 4, &error), &error);
  fine(afterimage_result_f32(result, 0, 0, floats, pixels * 3, &error), &error);
  for (size_t pixel = 0; pixel < pixels; pixel++) {
    EXPECT(own[pixel * 4 + 3] == 255);
    for (size_t channel = 0; channel < 3; channel++) {
      float exact = floats[pixel * 3 + channel] * 255.0f;
      float rounded = (float)own[pixel * 4 + channel];
      EXPECT(exact - rounded <= 0.5001f && rounded - exact <= 0.5001f);
    }
  }
  failed(afterimage_result_rgba8(result, 0, 0, own, pixels * 4 - 1, &error), &error, AFTERIMAGE_CODE_BUFFER, "buffer");
  failed(afterimage_result_rgba8(result, 0, 0, NULL, pixels * 4, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "null");
  failed(afterimage_result_rgba8(result, 1, 0, own, pixels * 4, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "item 1");
  failed(afterimage_result_f32(result, 0, UINT64_MAX, floats, pixels * 3, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "frame");
  uint8_t *theirs = NULL;
  float *their_floats = NULL;
  fine(afterimage_result_take_rgba8(result, 0, 0, &theirs, &error), &error);
  fine(afterimage_result_take_f32(result, 0, 0, &their_floats, &error), &error);
  EXPECT(memcmp(own, theirs, pixels * 4) == 0);
  EXPECT(memcmp(floats, their_floats, pixels * 3 * sizeof(float)) == 0);
  EXPECT(afterimage_free(theirs) == AFTERIMAGE_CODE_OK && afterimage_free(their_floats) == AFTERIMAGE_CODE_OK);
  EXPECT(afterimage_free(own) == AFTERIMAGE_CODE_HANDLE); /* not the library's */
  char *json = NULL;
  fine(afterimage_result_report(result, &json, &error), &error);
  EXPECT(strstr(json, "\"denoising\":") != NULL);
  afterimage_free(json);
  free(own);
  free(floats);
}

/* A file of a result is the program's own: the script compares it. */
static void saved(const afterimage_result *result) {
  char path[4096], tail[5] = {0};
  afterimage_error *error = NULL;
  EXPECT(snprintf(path, sizeof path, "%s/calls.png", folder) < (int)sizeof path);
  fine(afterimage_result_save(result, 0, path, &error), &error);
  FILE *file = fopen(path, "rb");
  EXPECT(file != NULL && fread(tail, 1, 4, file) == 4 && memcmp(tail, "\x89PNG", 4) == 0);
  fclose(file);
  failed(afterimage_result_save(result, 1, path, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "item 1");
  failed(afterimage_result_save(result, 0, NULL, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "path");
  failed(afterimage_result_save(result, 0, "a.bmp", &error), &error, AFTERIMAGE_CODE_REQUEST, "bmp");
  EXPECT(snprintf(path, sizeof path, "%s/absent/calls.png", folder) < (int)sizeof path);
  failed(afterimage_result_save(result, 0, path, &error), &error, AFTERIMAGE_CODE_FILE, "absent");
}

static void runs(afterimage_model *model) {
  struct heard heard = {0};
  heard.model = model;
  afterimage_callbacks hear = callbacks(&heard);
  afterimage_result *result = NULL;
  afterimage_error *error = NULL;
  fine(afterimage_run(model, RECIPE, &hear, NULL, &result, &error), &error);
  EXPECT(heard.steps >= 4 && heard.previews >= 1);
  pictures(result);
  saved(result);
  /* The same preview decoded is another picture, and the run is the same. */
  struct heard looked = {0};
  afterimage_callbacks look = callbacks(&looked);
  look.preview_decoded = 1;
  afterimage_result *shown = NULL;
  fine(afterimage_run(model, RECIPE, &look, NULL, &shown, &error), &error);
  EXPECT(looked.previews == heard.previews && looked.sum != heard.sum);
  EXPECT(afterimage_result_free(shown) == AFTERIMAGE_CODE_OK);
  /* What a result says of itself makes the same again. */
  char *recipe = NULL;
  fine(afterimage_result_recipe(result, &recipe, &error), &error);
  afterimage_result *again = NULL;
  fine(afterimage_run(model, recipe, NULL, NULL, &again, &error), &error);
  uint8_t *one = NULL, *other = NULL;
  afterimage_shape shape = {0};
  shape.size = sizeof shape;
  fine(afterimage_result_shape(result, &shape, &error), &error);
  fine(afterimage_result_take_rgba8(result, 0, 0, &one, &error), &error);
  fine(afterimage_result_take_rgba8(again, 0, 0, &other, &error), &error);
  EXPECT(memcmp(one, other, shape.width * shape.height * 4) == 0);
  afterimage_free(one);
  afterimage_free(other);
  afterimage_free(recipe);
  afterimage_result_free(again);
  EXPECT(afterimage_result_free(result) == AFTERIMAGE_CODE_OK);
  EXPECT(afterimage_result_free(result) == AFTERIMAGE_CODE_HANDLE);
  failed(afterimage_result_shape(result, &shape, &error), &error, AFTERIMAGE_CODE_HANDLE, "result");
  /* An unknown word is warned of. */
  struct heard warned = {0};
  hear = callbacks(&warned);
  const char *cat = "{\"version\": 1, \"prompts\": [\"a cat\"], \"steps\": 1, \"seed\": 1}";
  fine(afterimage_run(model, cat, &hear, NULL, &result, &error), &error);
  EXPECT(warned.warnings == 1);
  afterimage_result_free(result);
}

static void cancelled(afterimage_model *model) {
  afterimage_cancel *cancel = NULL;
  afterimage_result *result = NULL;
  afterimage_error *error = NULL;
  /* By the callback. */
  struct heard heard = {0};
  heard.stop_at = 2;
  afterimage_callbacks hear = callbacks(&heard);
  failed(afterimage_run(model, RECIPE, &hear, NULL, &result, &error), &error, AFTERIMAGE_CODE_CANCELLED, "cancelled");
  EXPECT(heard.steps == 2 && result == NULL);
  /* Before it starts. */
  fine(afterimage_cancel_new(&cancel, &error), &error);
  EXPECT(afterimage_cancel_now(cancel) == AFTERIMAGE_CODE_OK);
  failed(afterimage_run(model, RECIPE, NULL, cancel, &result, &error), &error, AFTERIMAGE_CODE_CANCELLED, "cancelled");
  EXPECT(afterimage_cancel_free(cancel) == AFTERIMAGE_CODE_OK && afterimage_cancel_now(cancel) == AFTERIMAGE_CODE_HANDLE);
  /* After this picture, which is finished; after the end. */
  fine(afterimage_cancel_new(&cancel, &error), &error);
  struct heard afterwards = {0};
  afterwards.cancel = cancel;
  hear = callbacks(&afterwards);
  fine(afterimage_run(model, RECIPE, &hear, cancel, &result, &error), &error);
  EXPECT(afterwards.steps >= 4 && afterimage_cancel_now(cancel) == AFTERIMAGE_CODE_OK);
  afterimage_result_free(result);
  result = NULL;
  failed(afterimage_run(model, RECIPE, NULL, cancel, &result, &error), &error, AFTERIMAGE_CODE_CANCELLED, "cancelled");
  afterimage_cancel_free(cancel);
}

/* A model that is freed by a callback of its own run. */
static void freed_under_way(void) {
  struct heard heard = {0};
  heard.last = opened();
  const afterimage_model *model = heard.last;
  afterimage_callbacks hear = callbacks(&heard);
  afterimage_result *result = NULL;
  afterimage_error *error = NULL;
  fine(afterimage_run(model, RECIPE, &hear, NULL, &result, &error), &error);
  EXPECT(heard.steps >= 4 && heard.last == NULL);
  pictures(result);
  EXPECT(afterimage_result_free(result) == AFTERIMAGE_CODE_OK);
  result = NULL;
  failed(afterimage_run(model, RECIPE, NULL, NULL, &result, &error), &error, AFTERIMAGE_CODE_HANDLE, "model");
}

static void requests(afterimage_model *model) {
  afterimage_request *request = NULL;
  afterimage_error *error = NULL;
  fine(afterimage_request_new(&request, &error), &error);
  fine(afterimage_request_add_prompt(request, "a green ring", &error), &error);
  fine(afterimage_request_add_negative_prompt(request, "a \"blue\" square", &error), &error);
  fine(afterimage_request_set_seed(request, UINT64_MAX, &error), &error);
  fine(afterimage_request_set_steps(request, 2, &error), &error);
  fine(afterimage_request_set_guidance_scale(request, 4.5, &error), &error);
  fine(afterimage_request_set_size(request, 64, 64, &error), &error);
  fine(afterimage_request_set_batch(request, 2, &error), &error);
  fine(afterimage_request_set_sampler(request, "ddim", &error), &error);
  fine(afterimage_request_set_cache(request, "deepcache:interval=2,branch=0", &error), &error);
  failed(afterimage_request_set_guidance_scale(request, NAN, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "guidance");
  failed(afterimage_request_add_prompt(request, NULL, &error), &error, AFTERIMAGE_CODE_ARGUMENT, "null");
  char *recipe = NULL;
  fine(afterimage_request_recipe(request, &recipe, &error), &error);
  EXPECT(strstr(recipe, "18446744073709551615") != NULL);
  EXPECT(afterimage_request_free(request) == AFTERIMAGE_CODE_OK);
  failed(afterimage_request_set_steps(request, 3, &error), &error, AFTERIMAGE_CODE_HANDLE, "request");
  afterimage_result *result = NULL;
  fine(afterimage_run(model, recipe, NULL, NULL, &result, &error), &error);
  afterimage_shape shape = {0};
  shape.size = sizeof shape;
  fine(afterimage_result_shape(result, &shape, &error), &error);
  EXPECT(shape.items == 2 && shape.width == 64);
  afterimage_result_free(result);
  afterimage_free(recipe);
}

int main(int count, char **words) {
  if (count > 1) folder = words[1];
  versions_and_devices();
  plans();
  models_that_are_none();
  afterimage_model *model = opened();
  char *device = NULL;
  EXPECT(afterimage_model_device(model, &device, NULL) == AFTERIMAGE_CODE_OK && strcmp(device, "cpu") == 0);
  afterimage_free(device);
  handles_that_are_none(model);
  runs(model);
  cancelled(model);
  requests(model);
  EXPECT(afterimage_model_free(model) == AFTERIMAGE_CODE_OK);
  freed_under_way();
  puts("calls: all as they should be");
  return 0;
}
