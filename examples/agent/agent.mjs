// The example agent: an unmodified OpenAI SDK. Where its calls go is decided by the environment only, so
// `sallyport run -- node examples/agent/agent.mjs` puts it behind the sidecar without a change here.
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? 'https://demo.sallyport.test:10443/v1',
  apiKey: process.env.OPENAI_API_KEY ?? 'example-key',
  maxRetries: 0,
  timeout: 60_000,
});
const request = {
  model: process.env.OPENAI_MODEL ?? 'example-small',
  messages: [{ role: 'user', content: 'Say hello.' }],
};

try {
  const plain = await client.chat.completions.create(request);
  console.log(`plain: ${plain.choices[0]?.message.content}`);

  const stream = await client.chat.completions.create({
    ...request,
    stream: true,
    stream_options: { include_usage: true },
  });
  process.stdout.write('streamed: ');
  let tokens = 0;
  for await (const chunk of stream) {
    process.stdout.write(chunk.choices[0]?.delta.content ?? '');
    tokens = chunk.usage?.total_tokens ?? tokens;
  }
  console.log(` (${tokens} tokens)`);
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : '';
  console.error(`${error.status ?? 'no answer'}: ${error.message}${cause}`);
  process.exitCode = 1;
}
