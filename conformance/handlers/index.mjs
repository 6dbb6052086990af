// Logs with console, pino and Powertools.
import { Logger } from '@aws-lambda-powertools/logger';
import pino from 'pino';

const plain = pino();
const powertools = new Logger({ serviceName: 'orders' });

export const handler = async (event, context) => {
  powertools.addContext(context);
  console.log('console: order %d', event.order);
  plain.info({ order: event.order }, 'pino: order');
  await new Promise((resolve) => setTimeout(resolve, 5));
  powertools.info('powertools: order', { order: event.order });
  powertools.error('powertools: failed', new Error('no stock'));
};
