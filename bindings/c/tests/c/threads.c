/* Calls from several threads at once, on one model and on two. Ends with 0 if all answers are right. */
#include "common.h"
#include <pthread.h>

struct job {
  afterimage_model *model;
  afterimage_cancel *cancel;
  afterimage_code code;
  uint64_t sum;
};

static void *work(void *given) {
  struct job *job = given;
  afterimage_result *result = NULL;
  job->code = afterimage_run(job->model, RECIPE, NULL, job->cancel, &result, NULL);
  uint8_t *pixels = NULL;
  if (job->code == AFTERIMAGE_CODE_OK && afterimage_result_take_rgba8(result, 0, 0, &pixels, NULL) == AFTERIMAGE_CODE_OK) {
    for (int pixel = 0; pixel < 64 * 64 * 4; pixel++) job->sum = job->sum * 31 + pixels[pixel];
    afterimage_free(pixels);
  }
  afterimage_result_free(result);
  return NULL;
}

/* Four threads, on one model and another in turn. */
static void start(struct job *jobs, pthread_t *thread, afterimage_model *one, afterimage_model *other) {
  for (int each = 0; each < 4; each++) {
    jobs[each].model = each % 2 ? other : one;
    EXPECT(pthread_create(&thread[each], NULL, work, &jobs[each]) == 0);
  }
}

/* Two threads on each of two models: all make the same picture. */
static void side_by_side(void) {
  afterimage_model *one = opened(), *other = opened();
  struct job jobs[4] = {{0}};
  pthread_t thread[4];
  start(jobs, thread, one, other);
  for (int each = 0; each < 4; each++) {
    EXPECT(pthread_join(thread[each], NULL) == 0);
    EXPECT(jobs[each].code == AFTERIMAGE_CODE_OK && jobs[each].sum != 0 && jobs[each].sum == jobs[0].sum);
  }
  EXPECT(afterimage_model_free(one) == AFTERIMAGE_CODE_OK && afterimage_model_free(other) == AFTERIMAGE_CODE_OK);
}

/* Four threads on one model, which is freed while they run; and one that is cancelled from outside. */
static void threads(void) {
  afterimage_model *model = opened();
  struct job jobs[4] = {{0}};
  pthread_t thread[4];
  start(jobs, thread, model, model);
  EXPECT(afterimage_model_free(model) == AFTERIMAGE_CODE_OK);
  EXPECT(afterimage_model_free(model) == AFTERIMAGE_CODE_HANDLE);
  for (int each = 0; each < 4; each++) {
    EXPECT(pthread_join(thread[each], NULL) == 0);
    /* Who came before the model was freed is served, who came after is told. */
    EXPECT(jobs[each].code == AFTERIMAGE_CODE_OK || jobs[each].code == AFTERIMAGE_CODE_HANDLE);
  }
  model = opened();
  struct job one = {model, NULL, AFTERIMAGE_CODE_OK, 0};
  EXPECT(afterimage_cancel_new(&one.cancel, NULL) == AFTERIMAGE_CODE_OK);
  EXPECT(pthread_create(&thread[0], NULL, work, &one) == 0);
  EXPECT(afterimage_cancel_now(one.cancel) == AFTERIMAGE_CODE_OK);
  EXPECT(afterimage_cancel_free(one.cancel) == AFTERIMAGE_CODE_OK);
  EXPECT(pthread_join(thread[0], NULL) == 0);
  EXPECT(one.code == AFTERIMAGE_CODE_CANCELLED || one.code == AFTERIMAGE_CODE_HANDLE);
  EXPECT(afterimage_model_free(model) == AFTERIMAGE_CODE_OK);
}

int main(void) {
  side_by_side();
  threads();
  puts("threads: all as they should be");
  return 0;
}
