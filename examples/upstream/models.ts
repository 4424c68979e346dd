/** Answers in the shapes of the OpenAI and Anthropic APIs, so that their own SDKs can talk to the example. */
import { type Exchange, jsonObject, sendEvents, sendJson } from './exchange.ts';

const words = ['Hello', ' from', ' the', ' example', ' model', '.'];
const text = words.join('');
const pauseMs = 30;
/** A date of the example's own: answers do not change from run to run. */
const created = 1_700_000_000;

const data = (value: unknown): string => `data: ${JSON.stringify(value)}`;
const named = (event: string, value: Record<string, unknown>): string =>
  `event: ${event}\n${data({ type: event, ...value })}`;

const invalid = (message: string) => ({
  error: { message, type: 'invalid_request_error', param: null, code: null },
});

export function listModels({ response }: Exchange): void {
  const model = (id: string) => ({ id, object: 'model', created, owned_by: 'sallyport-example' });
  sendJson(response, 200, { object: 'list', data: [model('example-small'), model('example-large')] });
}

export async function chatCompletions({ response, body }: Exchange): Promise<void> {
  const asked = jsonObject(body);
  if (asked === undefined || !Array.isArray(asked['messages']))
    return sendJson(response, 400, invalid('the body is not a JSON object with `messages`'));
  const model = typeof asked['model'] === 'string' ? asked['model'] : 'example-small';
  const common = { id: 'chatcmpl-example', created, model };
  const usage = {
    prompt_tokens: asked['messages'].length * 7,
    completion_tokens: words.length,
    total_tokens: asked['messages'].length * 7 + words.length,
  };
  if (asked['stream'] !== true) {
    const message = { role: 'assistant', content: text, refusal: null };
    return sendJson(response, 200, {
      ...common,
      object: 'chat.completion',
      choices: [{ index: 0, message, finish_reason: 'stop', logprobs: null }],
      usage,
    });
  }
  const chunk = (choices: unknown[], extra: Record<string, unknown> = {}): string =>
    data({ ...common, object: 'chat.completion.chunk', choices, ...extra });
  const choice = (delta: Record<string, unknown>, finish_reason: string | null) => [
    { index: 0, delta, finish_reason },
  ];
  const options = asked['stream_options'];
  const wantsUsage =
    typeof options === 'object' &&
    options !== null &&
    'include_usage' in options &&
    options.include_usage === true;
  await sendEvents(
    response,
    [
      chunk(choice({ role: 'assistant', content: '' }, null)),
      ...words.map((content) => chunk(choice({ content }, null))),
      chunk(choice({}, 'stop')),
      ...(wantsUsage ? [chunk([], { usage })] : []),
      'data: [DONE]',
    ],
    pauseMs,
  );
}

export async function messages({ response, body }: Exchange): Promise<void> {
  const asked = jsonObject(body);
  if (asked === undefined || !Array.isArray(asked['messages']))
    return sendJson(response, 400, {
      type: 'error',
      error: { type: 'invalid_request_error', message: 'the body is not a JSON object with `messages`' },
    });
  const model = typeof asked['model'] === 'string' ? asked['model'] : 'example-small';
  const inputTokens = asked['messages'].length * 7;
  const message = { id: 'msg_example', type: 'message', role: 'assistant', model };
  const usage = { input_tokens: inputTokens, output_tokens: words.length };
  if (asked['stream'] !== true)
    return sendJson(response, 200, {
      ...message,
      content: [{ type: 'text', text }],
      stop_reason: 'end_turn',
      stop_sequence: null,
      usage,
    });
  const start = {
    ...message,
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { input_tokens: inputTokens, output_tokens: 0 },
  };
  await sendEvents(
    response,
    [
      named('message_start', { message: start }),
      named('content_block_start', { index: 0, content_block: { type: 'text', text: '' } }),
      ...words.map((word) =>
        named('content_block_delta', { index: 0, delta: { type: 'text_delta', text: word } }),
      ),
      named('content_block_stop', { index: 0 }),
      named('message_delta', { delta: { stop_reason: 'end_turn', stop_sequence: null }, usage }),
      named('message_stop', {}),
    ],
    pauseMs,
  );
}
